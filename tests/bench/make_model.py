#!/usr/bin/env python3
"""make_model.py - GGUF files with the shape of a real model and random weights, for benchmarks.

    make_model.py DIR [NAME...]     NAME is SHAPE-FORMAT; without one, all of them; --list prints the names

Shapes: gemma-3-270m, llama-3.2-1b. Formats: bf16, q8_0, q4_0, q4_k_m; which tensor gets which storage type follows what
llama.cpp's quantizer does for that format. The vocabulary has the real size and made-up pieces: every byte of a text is
one token. A file is written under another name and renamed when it is whole; one that is there is kept.
Formats of a block: ggml, ggml-common.h. The weights repeat after a few megabytes, which no timing can see."""
import os
import random
import struct
import sys

F32, Q4_0, Q5_0, Q8_0, Q4_K, Q6_K, BF16 = 0, 2, 6, 8, 12, 14, 30
BLOCK = {F32: (1, 4), BF16: (1, 2), Q8_0: (32, 34), Q4_0: (32, 18), Q5_0: (32, 22), Q4_K: (256, 144), Q6_K: (256, 210)}
FILE_TYPE = {"bf16": 32, "q8_0": 7, "q4_0": 2, "q4_k_m": 15}
ALIGN = 32
DEVIATION = 0.02  # of the weights

SHAPES = {
    "gemma-3-270m": dict(
        arch="gemma3", layers=18, embed=640, ffn=2048, heads=4, kv_heads=1, head_dim=256, vocab=262144, context=32768,
        base=1e6, epsilon=1e-6, window=512),
    "llama-3.2-1b": dict(
        arch="llama", layers=16, embed=2048, ffn=8192, heads=32, kv_heads=8, head_dim=64, vocab=128256, context=131072,
        base=5e5, epsilon=1e-5, window=0),
}


# --- weights: a pool of random blocks of each type ---------------------------------------------------------

def half(value):
    return struct.pack("<e", value)


def block(rng, kind):
    if kind == Q8_0:
        return half(DEVIATION / 73) + rng.randbytes(32)
    if kind == Q4_0:
        return half(DEVIATION / 4.6) + rng.randbytes(16)
    if kind == Q5_0:
        return half(DEVIATION / 9.2) + rng.randbytes(20)
    if kind == Q4_K:
        return half(DEVIATION / 147) + half(7.5 * DEVIATION / 147) + rng.randbytes(140)
    if kind == Q6_K:
        scales = bytes(rng.randrange(-32, 32) & 255 for _ in range(16))
        return rng.randbytes(192) + scales + half(DEVIATION / 340)
    return struct.pack("<f", rng.gauss(0, DEVIATION))[2:]  # BF16


class Weights:
    """A stream of blocks of one type; every tensor starts somewhere else in the pool."""

    def __init__(self, kind):
        rng = random.Random(kind)
        self.size = BLOCK[kind][1]
        self.pool = b"".join(block(rng, kind) for _ in range(131072 if kind == BF16 else 8192)) * 4
        self.start = 0

    def write(self, out, length):
        self.start = (self.start + 4099 * self.size) % len(self.pool)
        at = self.start
        while length > 0:
            piece = self.pool[at:at + length]
            out.write(piece)
            length -= len(piece)
            at = 0


# --- which tensors, of which type --------------------------------------------------------------------------

def storage(form, part, layer, layers, cols):
    """The storage type of a matrix, as llama.cpp's quantizer chooses it. The head is the embedding's matrix here."""
    if form == "bf16":
        return BF16
    if form == "q8_0":
        return Q8_0
    fine = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    want = Q4_0 if form == "q4_0" else Q4_K
    if part == "token_embd" or (form == "q4_k_m" and part in ("attn_v", "ffn_down") and fine):
        want = Q6_K
    if cols % BLOCK[want][0]:
        want = {Q4_K: Q5_0, Q6_K: Q8_0}[want]
    return want


def tensors(s, form):
    """(name, dimensions fastest first, type) in the order of the file."""
    e, f, q, kv = s["embed"], s["ffn"], s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    vectors = {"attn_norm": e, "ffn_norm": e}
    if s["arch"] == "gemma3":
        vectors.update(attn_q_norm=s["head_dim"], attn_k_norm=s["head_dim"], post_attention_norm=e, post_ffw_norm=e)
    matrices = {"attn_q": (e, q), "attn_k": (e, kv), "attn_v": (e, kv), "attn_output": (q, e),
                "ffn_gate": (e, f), "ffn_up": (e, f), "ffn_down": (f, e)}
    yield "output_norm.weight", (e,), F32
    yield "token_embd.weight", (e, s["vocab"]), storage(form, "token_embd", 0, s["layers"], e)
    if s["arch"] == "llama":
        yield "rope_freqs.weight", (s["head_dim"] // 2,), F32
    for i in range(s["layers"]):
        for part, n in vectors.items():
            yield f"blk.{i}.{part}.weight", (n,), F32
        for part, dims in matrices.items():
            yield f"blk.{i}.{part}.weight", dims, storage(form, part, i, s["layers"], dims[0])


def size_of(dims, kind):
    elements = 1
    for d in dims:
        elements *= d
    return elements // BLOCK[kind][0] * BLOCK[kind][1]


# --- the file ----------------------------------------------------------------------------------------------

def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def key(name, value, kind=None):
    if isinstance(value, bool):
        return text(name) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(name) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return text(name) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    body = b"".join(map(text, value)) if kind == 8 else struct.pack(f"<{len(value)}{'f' if kind == 6 else 'i'}", *value)
    return text(name) + struct.pack("<IIQ", 9, kind, len(value)) + body


def vocabulary(count):
    """Pieces and types: three controls, the 256 bytes, a space, words that no text has."""
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["\u2581"]
    types = [2, 3, 3] + [6] * 256 + [1]
    pieces += [f"\u2581~{i}~" for i in range(len(pieces), count)]
    return pieces, types + [1] * (count - len(types))


def keys(name, s, form):
    arch = s["arch"]
    pieces, types = vocabulary(s["vocab"])
    out = [key("general.architecture", arch), key("general.name", name), key("general.file_type", FILE_TYPE[form]),
           key("general.quantization_version", 2),
           key(f"{arch}.context_length", s["context"]), key(f"{arch}.embedding_length", s["embed"]),
           key(f"{arch}.block_count", s["layers"]), key(f"{arch}.feed_forward_length", s["ffn"]),
           key(f"{arch}.attention.head_count", s["heads"]), key(f"{arch}.attention.head_count_kv", s["kv_heads"]),
           key(f"{arch}.attention.key_length", s["head_dim"]), key(f"{arch}.attention.value_length", s["head_dim"]),
           key(f"{arch}.attention.layer_norm_rms_epsilon", s["epsilon"]), key(f"{arch}.rope.freq_base", s["base"])]
    if s["window"]:
        out.append(key(f"{arch}.attention.sliding_window", s["window"]))
    else:
        out += [key(f"{arch}.rope.dimension_count", s["head_dim"]), key(f"{arch}.vocab_size", s["vocab"])]
    out += [key("tokenizer.ggml.model", "llama"), key("tokenizer.ggml.pre", "default"),
            key("tokenizer.ggml.tokens", pieces, 8), key("tokenizer.ggml.scores", [-1.0 * i for i in range(len(pieces))], 6),
            key("tokenizer.ggml.token_type", types, 5), key("tokenizer.ggml.bos_token_id", 1),
            key("tokenizer.ggml.eos_token_id", 2), key("tokenizer.ggml.unknown_token_id", 0),
            key("tokenizer.ggml.add_bos_token", True), key("tokenizer.ggml.add_space_prefix", False)]
    return out


def pad(length):
    return b"\0" * (-length % ALIGN)


def write_vector(out, name, n):
    if name == "rope_freqs.weight":  # Llama 3.2: short waves as they are, long ones stretched 32 times
        values = [1.0 if i < n // 2 else 32.0 for i in range(n)]
    else:
        values = [1.0] * n
    out.write(struct.pack(f"<{n}f", *values))


def write(path, name, shape, form):
    s = SHAPES[shape]
    listed = list(tensors(s, form))
    pairs = keys(name, s, form)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(listed), len(pairs)) + b"".join(pairs)
    offset = 0
    for tensor, dims, kind in listed:
        head += text(tensor) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        offset += size_of(dims, kind) + len(pad(size_of(dims, kind)))
    pools = {}
    with open(path + ".part", "wb") as out:
        out.write(head + pad(len(head)))
        for tensor, dims, kind in listed:
            length = size_of(dims, kind)
            if kind == F32:
                write_vector(out, tensor, dims[0])
            else:
                pools.setdefault(kind, Weights(kind)).write(out, length)
            out.write(pad(length))
    os.rename(path + ".part", path)


def main():
    names = [f"{shape}-{form}" for shape in SHAPES for form in FILE_TYPE]
    if sys.argv[1:] == ["--list"]:
        print("\n".join(names))
        return 0
    wanted = sys.argv[2:] or names
    if len(sys.argv) < 2 or any(n not in names for n in wanted):
        print(f"usage: make_model.py DIR [NAME...]; the names are: {' '.join(names)}", file=sys.stderr)
        return 2
    os.makedirs(sys.argv[1], exist_ok=True)
    for name in wanted:
        path = os.path.join(sys.argv[1], name + "-shape.gguf")
        if not os.path.exists(path):
            write(path, name, *name.rsplit("-", 1))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
