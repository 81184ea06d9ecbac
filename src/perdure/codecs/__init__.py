"""Values to bytes and back.

A codec turns one value into bytes that stand alone, and refuses with ``CodecError`` whatever it could not give back.
``Pickle`` (the default) takes value types of the standard library and the classes of your own package; ``Json`` and
``MsgPack`` take plain data and run no code at all; anything else that answers to ``Codec`` will do as well.
"""

from perdure.codecs._json import Json
from perdure.codecs._msgpack import MsgPack
from perdure.codecs._pickle import Pickle
from perdure.codecs._protocol import Codec, SupportsRead, SupportsWrite, get_codec

__all__ = ["Codec", "Json", "MsgPack", "Pickle", "SupportsRead", "SupportsWrite", "get_codec"]
