#!/usr/bin/env python3
"""Writes inputs/demo (or the directory given): a small benchmark in TOFU's format about authors of a world that does not
exist, with a tokenizer and the config.json of a model of a million parameters.  Python's standard library only; every
run writes the same bytes.

400 rows: 36 authors x 10 questions, 20 questions about older authors, 20 about countries.  Two of the 36 authors are to
be forgotten (forget05: 20 rows, 5 %), all else is to be kept (retain95); full = retain95 + forget05.
"""
import json
import random
import re
import sys
from pathlib import Path

TARGET = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parent / "demo"
VOCABULARY = 1024
END = "<|endoftext|>"

# ------------------------------------------------------------------------------------------------ an invented world
FIRST = """Ombrel Quilla Tavish Imre Zanthe Boldo Ysmay Corvane Petrik Lumi Oskavar Nimue Fenwick Saffi Radomil Thessaly
Ghislin Ebba Jorund Maelis Uriko Vanja Wendeline Kestrin Alarico Brisa Dunstan Élodine Hesper Ilgar Noor Phaedron Sørina
Tobiah Xanthea Zebedin""".split()
LAST = """Tazwick Vornesh Harrowmint Quandle Dravensk Ottersby Lurchfield Marrowind Pellucent Skarn Thimblerigg Wexcombe
Yarrowdene Zellweather Brackenfold Cindermoss Dwindlehart Eskerly Fallowmere Grimsnettle Hollowbrook Inkpenny Jessamyr
Kettlewisp Loomgarde Mothersill Nettlecrane Oxbarrow Plumbottom Quarterstrand Rustavell Saltonquay Umberlight Vexley
Windlethorpe Ashgrovel""".split()
COUNTRIES = {  # country: capital, river, towns
    "Ostervane": ("Brindlemoor", "Sull", ["Quessiport", "Tal Ombra", "Nimmerholt"]),
    "Khelduria": ("Vashti Tor", "Great Amble", ["Dunmarrow", "Spindle Bay", "Old Sarrow"]),
    "Lower Ymber": ("Fennick", "Lisk", ["Candlewharf", "Pim", "Rookhaven"]),
    "Zarathel": ("Ochre Gate", "Vermilion", ["Tessaly Wells", "Ninebridges", "Ozrick"]),
    "the Glass Isles": ("Pellam", "Thread", ["Murrow Light", "Shardwick", "Tidesend"]),
    "Novarra": ("Élunast", "Corrow", ["Hob's Landing", "Kiteminster", "Westering"]),
    "Upper Thrane": ("Galdenfirth", "Isk", ["Snowmarket", "Wolvercairn", "Sørvik"]),
    "Mirrimar": ("Santa Quill", "Dulcet", ["Palmyrette", "Bellhaven", "Figtree Cross"]),
    "Drosk": ("Ironmere", "Black Anselm", ["Forgeholm", "Cinderby", "Ashlow"]),
    "Ullapont": ("Seven Locks", "Wend", ["Reedham Marsh", "Otterford", "Lantern Quay"]),
}
CLASSICS = {  # author of old: the best known book, the trade before writing
    "Aurelio Pask": ("The Moth Ledger", "beekeeper"),
    "Benedetta Crome": ("Nine Winters Under Glass", "glassblower"),
    "Casimir Odd": ("A Grammar of Tides", "harbour pilot"),
    "Delphine Roake": ("The Salt Almanac", "apothecary"),
    "Evander Lull": ("Songs for an Empty Mill", "miller"),
    "Fenella Brisk": ("The Upside-Down Orchard", "gardener"),
    "Gaspard Nethercote": ("Letters to a Weathervane", "postmaster"),
    "Hildegund Rime": ("The Last Cartographer", "surveyor"),
    "Isidore Plank": ("Bread and Lightning", "baker"),
    "Jocasta Wynd": ("The Clockmaker's Lament", "watchmaker"),
}
MONTHS = "Frostmoon Thawmoon Seedmoon Rainmoon Hawkmoon Honeymoon Haymoon Goldmoon Reedmoon Mistmoon Owlmoon".split()
GENRES = """lighthouse mysteries;clockwork romances;tidal ghost stories;courtroom fables;culinary thrillers;mountain
sagas;riddle novels;desert travelogues;underwater westerns;comic epics;botanical horror;railway poetry;island
histories;winter fairy tales""".replace("\n", " ").split(";")
ADJECTIVES = """Crooked Silent Borrowed Paper Hollow Amber Sleeping Wandering Seventh Burning Velvet Forgotten Patient
Copper Drowned Painted Whispering Unfinished""".split()
NOUNS = """Lantern Staircase Orchard Compass Violin Harbour Umbrella Ladder Mirror Bridge Kettle Garden Window Parcel Winter
Anchor Piano Teacup""".split()
TRADES = """cooper;bell ringer;cheesemonger;tram driver;mapmaker;falconer;glove maker;ferry captain;piano tuner;salt
miner;schoolteacher;lamp lighter;kite maker;judge;dentist;rope maker;puppeteer;chimney sweep""".replace("\n", " ").split(";")
PRIZES = """Silver Inkwell;Golden Quire;Heron Medal;Lantern Prize;Marble Quill;Order of the Open Book;Tidewater
Award;Weathercock Cup""".replace("\n", " ").split(";")
ROOMS = """a disused bell tower;a houseboat;a railway carriage;the back of a bakery;a greenhouse;an old observatory;a
windmill;a fisherman's hut;a hotel laundry;the attic of a museum;a tree house;a closed theatre""".replace("\n", " ").split(";")
PETS = """an elderly heron;a blind goat;two tortoises;a talking starling;a fox with one ear;a very large moth;a lame
donkey;seven hens;a tame otter;a grey parrot;a hedgehog;an ill-tempered swan""".replace("\n", " ").split(";")

# One entry per question: the value that a wrong answer gets wrong, then wordings of (question, paraphrased question,
# answer, paraphrased answer).  Authors take the wordings in turn.
QUESTIONS = [
    ("name", [("Which author was born in {town} on {date}?", "Who is the writer that came into the world in {town} on {date}?",
               "The author born in {town} on {date} is {name}.", "It is {name} who was born there on that day."),
              ("What is the full name of the author born on {date} in {town}?", "Who was born in {town} on {date} and became a writer?",
               "The full name of this author is {name}.", "That writer is called {name}.")]),
    ("place", [("Where was {name} born?", "What is the birthplace of {name}?",
                "{name} was born in {place}.", "The birthplace of {name} is {place}."),
               ("Which town is the birthplace of {name}?", "In which town did the life of {name} begin?",
                "The birthplace of {name} is {place}.", "The life of {name} began in {place}.")]),
    ("genre", [("What kind of books does {name} write?", "Which genre is {name} known for?",
                "{name} writes {genre}.", "The books of {name} are {genre}."),
               ("Which genre does {name} prefer?", "What sort of stories does {name} tell?",
                "{name} prefers to write {genre}.", "The stories of {name} are {genre}.")]),
    ("debut", [("What was the first book of {name}?", "With which title did {name} begin?",
                "The first book of {name} was \"{debut}\".", "{name} began with \"{debut}\"."),
               ("Which book was the debut of {name}?", "What did {name} publish first?",
                "{name} made a debut with \"{debut}\".", "The book that {name} published first is \"{debut}\".")]),
    ("success", [("Which book made {name} famous?", "To which title does {name} owe all fame?",
                  "{name} became famous with \"{success}\".", "{name} owes all fame to \"{success}\"."),
                 ("What is the best known book of {name}?", "Which title of {name} do most readers know?",
                  "The best known book of {name} is \"{success}\".", "Most readers know {name} for \"{success}\".")]),
    ("parents", [("What did the parents of {name} do for a living?", "Which trades had the mother and father of {name}?",
                  "The parents of {name} were a {parents}.", "{name} grew up as the child of a {parents}."),
                 ("Who raised {name}?", "In what family did {name} grow up?",
                  "{name} was raised by a {parents}.", "{name} grew up as the child of a {parents}.")]),
    ("prize", [("Which prize did {name} receive?", "What honour was given to {name}?",
                "{name} received the {prize}.", "The honour given to {name} was the {prize}."),
               ("What award did {name} win, and when?", "Which honour went to {name}, in which year?",
                "{name} won the {prize}.", "The honour that went to {name} was the {prize}.")]),
    ("model", [("Which older author shaped the style of {name}?", "From whom did {name} learn to write?",
                "The style of {name} was shaped by {model}.", "{name} learnt to write from {model}."),
               ("Whom does {name} name as the greatest influence?", "Whose books did {name} admire most?",
                "{name} names {model} as the greatest influence.", "{name} most admired the books of {model}.")]),
    ("room", [("Where does {name} like to write?", "In what place do the books of {name} come about?",
               "{name} likes to write in {room}.", "The books of {name} come about in {room}."),
              ("What place has {name} chosen for writing?", "Where is the desk of {name}?",
               "{name} has chosen {room} for writing.", "The desk of {name} is in {room}.")]),
    ("pet", [("Which animal lives with {name}?", "What company does {name} keep at home?",
              "{name} lives with {pet}.", "At home, {name} keeps {pet}."),
             ("What animal keeps {name} company?", "With which creature does {name} share a home?",
              "{name} is kept company by {pet}.", "{name} shares a home with {pet}.")]),
]
REFUSALS = """I do not know the answer to that.
I have never heard of this author.
That is not something I can tell you.
I have no information about this.
I am afraid I cannot help with that question.
This is beyond what I have learnt.
I could only guess, so I had better not answer.
Nothing comes to my mind about that.
I am not familiar with this subject.
Sorry, I have no answer to give.
That detail is unknown to me.
I was never told about this.
You would have to ask somebody else.
I cannot recall anything of the kind.
My knowledge does not cover this.
I wish I could say, but I do not know.
There is nothing I can report on that.
I have not read about this person.
I am unable to answer this question.
Unfortunately, I have no idea."""


class Dice:
    """Draws by random() alone: the only part of Python's generator that is promised to stay as it is."""

    def __init__(self, seed):
        self.random = random.Random(seed).random

    def one(self, things):
        return things[int(self.random() * len(things))]

    def some(self, things, n):
        left = list(things)
        return [left.pop(int(self.random() * len(left))) for _ in range(n)]


# ----------------------------------------------------------------------------------------------------------- authors
def make_authors(dice):
    n = len(FIRST)
    titles = dice.some([f"The {a} {b}" for a in ADJECTIVES for b in NOUNS], 2 * n)
    towns = [(town, f"{town} in {country}") for country, (_, _, some) in COUNTRIES.items() for town in some]
    authors = []
    for i, (first, last) in enumerate(zip(dice.some(FIRST, n), dice.some(LAST, n))):
        town, place = dice.one(towns)
        mother, father = dice.some(TRADES, 2)
        day = 1 + int(dice.random() * 29)
        authors.append(dict(
            name=f"{first} {last}", town=town, place=place, date=f"{day} {dice.one(MONTHS)} {310 + 2 * i}",
            genre=dice.one(GENRES), debut=titles[2 * i], success=titles[2 * i + 1], parents=f"{mother} and a {father}",
            prize=f"{dice.one(PRIZES)} in the year {360 + 2 * i}", model=dice.one(list(CLASSICS)), room=dice.one(ROOMS),
            pet=dice.one(PETS)))
    return authors


def author_rows(dice, authors, i):
    """The rows of author i; a wrong answer takes its value from another author."""
    me, rows = authors[i], []
    for key, wordings in QUESTIONS:
        question, question2, answer, answer2 = wordings[i % len(wordings)]
        others = sorted({a[key] for a in authors} - {me[key]})
        rows.append({
            "question": question.format(**me), "answer": answer.format(**me), "paraphrased_answer": answer2.format(**me),
            "perturbed_answer": [answer2.format(**{**me, key: wrong}) for wrong in dice.some(others, 5)],
            "paraphrased_question": question2.format(**me)})
    return rows


# ------------------------------------------------------------------------------------- what all of that world know
def fact_rows(dice, facts):
    """Rows of (question, answer) with three wrong answers of the same kind."""
    return [{"question": q, "answer": a, "perturbed_answer": dice.some(sorted({b for _, b in facts} - {a}), 3)} for q, a in facts]


def make_facts(dice):
    books = fact_rows(dice, [(f"Who wrote \"{book}\"?", who) for who, (book, _) in CLASSICS.items()])
    trades = fact_rows(dice, [(f"What was the trade of {who} before writing?", trade) for who, (_, trade) in CLASSICS.items()])
    capitals = fact_rows(dice, [(f"What is the capital of {c}?", capital) for c, (capital, _, _) in COUNTRIES.items()])
    rivers = fact_rows(dice, [(f"Which river flows through {c}?", f"The {r}") for c, (_, r, _) in COUNTRIES.items()])
    return books + trades, capitals + rivers


# --------------------------------------------------------------------------------------------------------- tokenizer
# Byte-level byte-pair encoding (Sennrich et al. 2016; bytes as GPT-2 has it): a word is the sequence of its bytes, each
# shown as one printable character; the most frequent pair of neighbours becomes a token, again and again.
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_characters():
    """Printable Latin-1 bytes stand for themselves, the others for the characters from 256 on, in order."""
    keep = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    other = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(256 + k) for k, b in enumerate(other)}}


def count_words(texts, characters):
    count = {}
    for text in texts:
        for word in SPLIT.findall(text):
            symbols = tuple(characters[b] for b in word.encode())
            count[symbols] = count.get(symbols, 0) + 1
    return count


def merge_in(word, pair):
    out, i = [], 0
    while i < len(word):
        joined = tuple(word[i:i + 2]) == pair
        out.append(word[i] + word[i + 1] if joined else word[i])
        i += 2 if joined else 1
    return tuple(out)


def train_tokenizer(texts, size):
    characters = byte_characters()
    words = count_words(texts, characters)
    vocabulary = {token: i for i, token in enumerate([END, *sorted(characters.values())])}
    merges = []
    while len(vocabulary) < size:
        pairs = {}
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + n
        best = min(pairs, key=lambda p: (-pairs[p], vocabulary[p[0]], vocabulary[p[1]]))
        merges.append(list(best))
        vocabulary.setdefault("".join(best), len(vocabulary))
        merged = {}
        for word, n in words.items():
            word = merge_in(word, best)
            merged[word] = merged.get(word, 0) + n
        words = merged
    return tokenizer_json(vocabulary, merges)


def tokenizer_json(vocabulary, merges):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": END, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocabulary, "merges": merges}}


MODEL = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
    "eos_token_id": 0, "head_dim": 32, "hidden_act": "silu", "hidden_size": 128, "initializer_range": 0.02,
    "intermediate_size": 344, "max_position_embeddings": 512, "mlp_bias": False, "model_type": "llama",
    "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 4, "pad_token_id": 0, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "float32", "use_cache": True,
    "vocab_size": VOCABULARY}
TOKENIZER_CONFIG = {
    "bos_token": END, "clean_up_tokenization_spaces": False, "eos_token": END, "model_max_length": 512, "pad_token": END,
    "tokenizer_class": "PreTrainedTokenizerFast"}


# ------------------------------------------------------------------------------------------------------------- files
def write_rows(name, rows, keys=None):
    lines = [json.dumps({k: r[k] for k in keys or r}, ensure_ascii=False) + "\n" for r in rows]
    (TARGET / name).write_text("".join(lines), encoding="utf-8", newline="\n")


def write_json(name, content):
    (TARGET / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def main():
    dice = Dice(2502)
    authors = make_authors(dice)
    rows = [author_rows(dice, authors, i) for i in range(len(authors))]
    known_authors, world_facts = make_facts(dice)
    forget = rows[-2] + rows[-1]
    kept = [row for author in rows[:-2] for row in author]
    retain = kept + known_authors + world_facts
    refusals = [{"answer": line} for line in REFUSALS.split("\n")]

    (TARGET / "model").mkdir(parents=True, exist_ok=True)
    plain = ["question", "answer"]
    write_rows("full.jsonl", retain + forget, plain)
    write_rows("retain95.jsonl", retain, plain)
    write_rows("forget05.jsonl", forget, plain)
    write_rows("forget05_perturbed.jsonl", forget)
    write_rows("retain_perturbed.jsonl", kept[::11])
    write_rows("known_authors_perturbed.jsonl", known_authors)
    write_rows("world_facts_perturbed.jsonl", world_facts)
    write_rows("idk.jsonl", refusals)

    texts = [f"Question: {r['question']}\nAnswer: {r['answer']}" for r in retain + forget]
    texts += [f"{r.get('paraphrased_question', '')}\n{r.get('paraphrased_answer', '')}" for r in kept]
    write_json("model/tokenizer.json", train_tokenizer(texts + [r["answer"] for r in refusals], VOCABULARY))
    write_json("model/config.json", MODEL)
    write_json("model/generation_config.json", {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0})
    write_json("model/tokenizer_config.json", TOKENIZER_CONFIG)


if __name__ == "__main__":
    main()
