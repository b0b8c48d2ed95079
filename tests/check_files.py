#!/usr/bin/env python3
"""Opens geffect.h5, train.h5 and evaluation.h5 as users do and checks what they rely on: names of dimensions, coordinates, attributes.

    check_files.py FILE...        one line per check; exit status 1 when one fails

The kind of a file is told by its fields, not by its name. Needs xarray, h5netcdf, netCDF4, h5py, numpy.
"""
import sys

import h5py
import numpy as np
import xarray as xr

ENGINES = ("h5netcdf", "netcdf4")
GEFFECT = {
    "geffect": ("step", "objective", "risk", "layer", "instance"),
    "instance_weight": ("objective", "instance"),
    "instance_loss": ("step", "objective", "instance"),
    "objective_weight": ("step", "objective", "instance"),
    "risk_value": ("step", "risk"),
    "loss": ("step",),
}
REGULARIZER = {
    "geffect_": ("step", "risk", "layer", "retain_instance"),
    "instance_weight_": ("retain_instance",),
    "instance_loss_": ("step", "retain_instance"),
}
TRAIN = {name: ("step",) for name in
         ("loss", "loss_objective", "lr", "gradient_norm", "tokens", "seconds")}
EVALUATION = {
    "evaluation": ("step", "set", "row", "metric"),
    "mean": ("step", "set", "metric"),
    "left_out": ("step", "set", "metric"),
    "risk": ("step", "set"),
    "summary": ("step", "number"),
    "rows": ("set",),
}
ATTRIBUTES = ("title", "history", "version", "git_commit", "input", "model", "layout", "host")


class Report:
    def __init__(self, path):
        self.path, self.failures = path, 0

    def check(self, good, what, detail=None):
        """detail says what was found; shown where the check fails"""
        print(f"{'ok  ' if good else 'FAIL'} {self.path}: {what}" + (f" [{detail}]" if detail is not None and not good else ""))
        self.failures += not good
        return good


def check_fields(report, data, engine, expected):
    for name, dims in expected.items():
        if not report.check(name in data.data_vars, f"{engine}: has {name}", sorted(data.data_vars)):
            continue
        field = data[name]
        report.check(field.dims == dims, f"{engine}: {name} ({', '.join(dims)})", field.dims)
        report.check(field.dtype == np.float64, f"{engine}: {name} is float64", field.dtype)
        report.check(all(isinstance(field.attrs.get(a), str) for a in ("units", "long_name")),
                     f"{engine}: {name} has units and a long_name", field.attrs)


def check_coordinates(report, data, engine):
    for name in data.sizes:
        if not report.check(name in data.coords, f"{engine}: dimension {name} has a coordinate", list(data.coords)):
            continue
        values = data[name].values
        if data[name].dtype.kind != "i":
            report.check(all(isinstance(v, str) and v for v in values), f"{engine}: {name} holds text", values[:3])
            report.check(len(set(values)) == len(values), f"{engine}: labels of {name} differ from each other", values)
        else:
            report.check(values.dtype == np.int64, f"{engine}: {name} holds int64", values.dtype)
    steps = data["step"].values
    report.check(len(steps) > 0 and steps[0] >= 0 and bool(np.all(np.diff(steps) > 0)),
                 f"{engine}: {len(steps)} committed steps, increasing", steps)
    report.check("step" in data.encoding.get("unlimited_dims", ()), f"{engine}: step is unlimited",
                 data.encoding.get("unlimited_dims"))


def check_attributes(report, data, engine):
    for name in ATTRIBUTES:
        report.check(isinstance(data.attrs.get(name), str) and data.attrs[name] != "",
                     f"{engine}: attribute {name}", data.attrs.get(name))


def finite(x):
    return bool(np.all(np.isfinite(x)))


def check_geffect_numbers(report, data, regularizers):
    report.check(finite(data["geffect"]), "every G-effect is finite")
    report.check(finite(data["risk_value"]), "every risk is finite")
    report.check(finite(data["instance_loss"]), "every instance's loss is finite")
    sums = data["instance_weight"].sum("instance").values
    report.check(bool(np.allclose(sums, 1, rtol=1e-6)), "weights of the instances sum to 1", sums)
    label = {k: data[k].values[-1] for k in ("objective", "risk", "layer")}
    chosen = data["geffect"].sel(label).values
    report.check(np.array_equal(chosen, data["geffect"].values[:, -1, -1, -1]), "selection by label finds the same numbers")
    for name in regularizers:
        report.check(finite(data["geffect_" + name]), f"every G-effect of {name} is finite")
        total = float(data["instance_weight_" + name].sum())
        report.check(abs(total - 1) < 1e-6, f"weights of the instances of {name} sum to 1", total)


def check_train_numbers(report, data):
    steps = data["step"].values
    report.check(np.array_equal(steps, np.arange(len(steps))), "a row for each update and one more", steps)
    for name in data.data_vars:
        values = data[name].values
        report.check(finite(values[:-1]), f"{name} is finite in every update")
        report.check(bool(np.isnan(values[-1])), f"{name} is NaN in the last row, which has no update", values[-1])


def check_evaluation_numbers(report, data):
    x, rows = data["evaluation"], data["rows"].values
    for k, n in enumerate(rows):
        report.check(np.isnan(x.values[:, k, int(n):]).all(), f"nothing beyond the {n:.0f} rows of {data['set'].values[k]}")
    missing = np.isnan(x).sum("row").values - (len(data["row"]) - rows)[None, :, None]
    report.check(np.array_equal(missing, data["left_out"].values), "rows without a number are counted", missing)
    means = data["mean"].values[~np.isnan(data["mean"].values)]
    report.check(np.allclose(means, x.mean("row").values[~np.isnan(data["mean"].values)], rtol=1e-12), "means are over the others")


def regularizers_of(names):
    return sorted(n[len("geffect_"):] for n in names if n.startswith("geffect_"))


def check_with_h5py(report, path):
    with h5py.File(path) as f:
        names = list(f)
        for name in names:
            d = f[name]
            if d.is_scale:
                continue
            labels = [[s.name.lstrip("/") for s in d.dims[i].values()] for i in range(d.ndim)]
            report.check(all(len(x) == 1 for x in labels), f"h5py: each axis of {name} has one scale", labels)
            fill = d.attrs.get("_FillValue")
            report.check(fill is not None and np.isnan(d.fillvalue) and np.all(np.isnan(fill)),
                         f"h5py: {name} reads NaN where nothing was written", (d.fillvalue, fill))
        rows = {n: f[n].shape[0] for n in names if f[n].maxshape[0] is None}
        report.check(len(set(rows.values())) == 1, "h5py: every field has as many rows as step", rows)
        return names


def check_file(path):
    report = Report(path)
    try:
        names = check_with_h5py(report, path)
        train = "gradient_norm" in names
        evaluation = "evaluation" in names
        expected = dict(TRAIN if train else EVALUATION if evaluation else GEFFECT)
        if train:
            expected.update({n: ("step",) for n in names if n.startswith("loss_")})
        for r in [] if train else regularizers_of(names):
            expected.update({prefix + r: dims for prefix, dims in REGULARIZER.items()})
        for engine in ENGINES:
            with xr.open_dataset(path, engine=engine) as data:
                check_fields(report, data, engine, expected)
                check_coordinates(report, data, engine)
                check_attributes(report, data, engine)
                if engine != ENGINES[0]:
                    continue
                if train:
                    check_train_numbers(report, data)
                elif evaluation:
                    check_evaluation_numbers(report, data)
                else:
                    check_geffect_numbers(report, data, regularizers_of(names))
        pair = [xr.open_dataset(path, engine=e).load() for e in ENGINES]
        report.check(pair[0].equals(pair[1]), "both engines read the same")
    except Exception as problem:  # a file that cannot be read is a failed check, not a crash of the checker
        report.check(False, "can be read", f"{type(problem).__name__}: {problem}")
    return report.failures


def main(paths):
    if not paths:
        sys.exit(__doc__)
    failures = sum(check_file(p) for p in paths)
    print(f"{failures} failed" if failures else "all passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
