"""Taking over what other libraries wrote: tastypy's folders, shelve, sqlitedict and diskcache files.

Each function reads a file as a stream, puts its pairs into a ``PersistentDict``, and reports what it passed over and
why: nothing is dropped in silence. Pickles are read with the restricted codec, so that a file cannot run anything.
"""

from perdure.mapping._importers._diskcache import import_diskcache
from perdure.mapping._importers._report import ImportReport, Skipped
from perdure.mapping._importers._shelve import import_shelve
from perdure.mapping._importers._sqlitedict import import_sqlitedict
from perdure.mapping._importers._tastypy import import_tastypy

__all__ = [
    "ImportReport",
    "Skipped",
    "import_diskcache",
    "import_shelve",
    "import_sqlitedict",
    "import_tastypy",
]
