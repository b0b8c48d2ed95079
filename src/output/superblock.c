/* The length that a file states of itself. HDF5 writes an index before the length that covers what the index points to; a
 * process killed between the two leaves fields that cannot be read. So the file states enough length before each flush.
 *
 * HDF5 file format 3.0, section II.A: version 2, 48 bytes: signature, version, sizes of offsets and lengths, flags, base
 * address, extension, end of file (byte 28), root group, checksum (Jenkins' lookup3 of the 44 bytes before it). */
#include "unlearn/output_priv.h"
#include <string.h>
#include <unistd.h>

enum { SIZE = 48, VERSION_AT = 8, OFFSET_SIZE_AT = 9, END_AT = 28, CHECKSUM_AT = 44 };
static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

static uint64_t load(const unsigned char *from, int bytes)
{
    uint64_t x = 0;
    for (int i = bytes - 1; i >= 0; i--) x = x << 8 | from[i];
    return x;
}

static void store(uint64_t x, unsigned char *to, int bytes)
{
    for (int i = 0; i < bytes; i++, x >>= 8) to[i] = (unsigned char)x;
}

static uint32_t turn(uint32_t x, int k) { return x << k | x >> (32 - k); }

/* lookup3 of exactly CHECKSUM_AT bytes: three full blocks of twelve, and eight */
static uint32_t checksum(const unsigned char *s)
{
    uint32_t a, b, c;
    a = b = c = 0xdeadbeefu + CHECKSUM_AT;
    for (int i = 0; i < 36; i += 12) {
        a += (uint32_t)load(s + i, 4), b += (uint32_t)load(s + i + 4, 4), c += (uint32_t)load(s + i + 8, 4);
        a -= c, a ^= turn(c, 4), c += b;
        b -= a, b ^= turn(a, 6), a += c;
        c -= b, c ^= turn(b, 8), b += a;
        a -= c, a ^= turn(c, 16), c += b;
        b -= a, b ^= turn(a, 19), a += c;
        c -= b, c ^= turn(b, 4), b += a;
    }
    a += (uint32_t)load(s + 36, 4), b += (uint32_t)load(s + 40, 4);
    c ^= b, c -= turn(b, 14);
    a ^= c, a -= turn(c, 11);
    b ^= a, b -= turn(a, 25);
    c ^= b, c -= turn(b, 16);
    a ^= c, a -= turn(c, 4);
    b ^= a, b -= turn(a, 14);
    c ^= b, c -= turn(b, 24);
    return c;
}

bool superblock_state_length(int fd, uint64_t length)
{
    unsigned char s[SIZE];
    if (pread(fd, s, SIZE, 0) != SIZE || memcmp(s, signature, sizeof signature) != 0) return false;
    if (s[VERSION_AT] != 2 || s[OFFSET_SIZE_AT] != 8 || load(s + CHECKSUM_AT, 4) != checksum(s)) return false;
    if (load(s + END_AT, 8) == length) return true;
    store(length, s + END_AT, 8);
    store(checksum(s), s + CHECKSUM_AT, 4);
    return pwrite(fd, s, SIZE, 0) == SIZE;
}
