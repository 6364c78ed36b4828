"""Writes GGUF, version 3, little endian: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""
import struct

import numpy as np

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
ALIGN = 32


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    if kind == STRING:
        return string(v)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def field(key, kind, v):
    if isinstance(v, list):
        return string(key) + struct.pack("<IIQ", ARRAY, kind, len(v)) + b"".join(value(kind, x) for x in v)
    return string(key) + struct.pack("<I", kind) + value(kind, v)


def write(path, fields, tensors):
    """fields: (key, kind, value); tensors: (name, array); matrices become f16, vectors stay f32"""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(fields))] + [field(*f) for f in fields]
    at, data = 0, []
    for name, a in tensors:
        a = np.ascontiguousarray(a, dtype=np.float16 if a.ndim == 2 else np.float32)
        dims = a.shape[::-1]
        out.append(string(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", 1 if a.ndim == 2 else 0, at))
        raw = a.tobytes()
        raw += b"\0" * (-len(raw) % ALIGN)
        data.append(raw)
        at += len(raw)
    head = b"".join(out)
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % ALIGN) + b"".join(data))
