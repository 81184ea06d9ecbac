"""What pickles of pandas look up: an exact table, for pandas 2 and 3.

The package as a whole will not do: it has classes whose constructors open files. These are values: frames, series,
indexes, extension arrays and their dtypes, moments and periods; the block managers and functions with which they
pickle themselves. Those functions make an instance of the class that they are given, which is looked up by the same
table, from arrays that come through the same stream; compiled code checks what it is given.
"""

from __future__ import annotations

_INTEGERS = "Int16Dtype Int32Dtype Int64Dtype Int8Dtype UInt16Dtype UInt32Dtype UInt64Dtype UInt8Dtype"
_FLOATS = "Float32Dtype Float64Dtype"
_DTYPES = "CategoricalDtype DatetimeTZDtype IntervalDtype PeriodDtype SparseDtype"
_ARRAYS = (
    "BooleanArray Categorical DatetimeArray FloatingArray IntegerArray IntervalArray NumpyExtensionArray PeriodArray "
    "SparseArray StringArray TimedeltaArray"
)
_OFFSETS = (
    "BQuarterBegin BQuarterEnd BYearBegin BYearEnd BusinessDay BusinessMonthBegin BusinessMonthEnd Day Hour Micro "
    "Milli Minute MonthBegin MonthEnd Nano QuarterBegin QuarterEnd Second SemiMonthBegin SemiMonthEnd Week YearBegin "
    "YearEnd"
)

PANDAS: dict[str, str] = {
    # Where pandas 3 says that its classes live.
    "pandas": "DataFrame Series Index RangeIndex MultiIndex CategoricalIndex DatetimeIndex IntervalIndex PeriodIndex "
    "TimedeltaIndex Categorical Interval NA Period Timedelta Timestamp BooleanDtype StringDtype "
    + " ".join((_INTEGERS, _FLOATS, _DTYPES)),
    "pandas.arrays": _ARRAYS,
    # Where they do live, which is what pandas 2 says.
    "pandas.core.frame": "DataFrame",
    "pandas.core.series": "Series",
    "pandas.core.indexes.base": "Index _new_Index",
    "pandas.core.indexes.range": "RangeIndex",
    "pandas.core.indexes.multi": "MultiIndex",
    "pandas.core.indexes.category": "CategoricalIndex",
    "pandas.core.indexes.datetimes": "DatetimeIndex _new_DatetimeIndex",
    "pandas.core.indexes.interval": "IntervalIndex _new_IntervalIndex",
    "pandas.core.indexes.period": "PeriodIndex _new_PeriodIndex",
    "pandas.core.indexes.timedeltas": "TimedeltaIndex _new_TimedeltaIndex",
    "pandas.core.internals.managers": "BlockManager SingleBlockManager",
    "pandas.core.dtypes.dtypes": _DTYPES,
    "pandas.core.arrays.boolean": "BooleanArray BooleanDtype",
    "pandas.core.arrays.categorical": "Categorical",
    "pandas.core.arrays.datetimes": "DatetimeArray",
    "pandas.core.arrays.floating": "FloatingArray " + _FLOATS,
    "pandas.core.arrays.integer": "IntegerArray " + _INTEGERS,
    "pandas.core.arrays.interval": "IntervalArray",
    "pandas.core.arrays.numpy_": "NumpyExtensionArray",
    "pandas.core.arrays.period": "PeriodArray",
    "pandas.core.arrays.sparse.array": "SparseArray",
    "pandas.core.arrays.string_": "StringArray StringDtype",
    "pandas.core.arrays.timedeltas": "TimedeltaArray",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "pandas._libs.internals": "_unpickle_block",
    "pandas._libs.interval": "Interval __pyx_unpickle_IntervalMixin",
    "pandas._libs.missing": "NA",
    "pandas._libs.sparse": "BlockIndex IntIndex",
    "pandas._libs.tslibs.nattype": "__nat_unpickle _nat_unpickle",
    "pandas._libs.tslibs.offsets": _OFFSETS,
    "pandas._libs.tslibs.period": "Period _period_unpickle",
    "pandas._libs.tslibs.timedeltas": "Timedelta _timedelta_unpickle",
    "pandas._libs.tslibs.timestamps": "Timestamp _unpickle_timestamp",
    # The zones of pandas 2. By name; pytz refuses names that leave its database.
    "pytz": "_UTC _p",
}
