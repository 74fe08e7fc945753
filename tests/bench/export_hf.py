#!/usr/bin/env python3
"""export_hf.py - a Llama model in a GGUF file as a Hugging Face directory, for programs that read no GGUF.

    export_hf.py FILE.gguf DIR      needs numpy

Writes config.json, generation_config.json, model.safetensors (BF16, rounded to nearest even), tokenizer.json and
tokenizer_config.json; DIR appears when it is whole, one that is there is kept. Takes what the demo's SmolLM2 needs and
refuses the rest: architecture llama with the embedding as its head, storage F32, Q8_0 and Q4_1, byte-level BPE whose
pre-tokenizer is GPT-2's after single digits. Formats: ggml docs/gguf.md, ggml-common.h; safetensors' README."""
import json
import os
import shutil
import struct
import sys

import numpy as np

F32, Q4_1, Q8_0 = 0, 3, 8
ALIGN = 32
CONTROL = 3  # tokenizer.ggml.token_type
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9


class Gguf:
    """Keys and tensors of a version 3 file."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.at = 0
        if self.data[:4] != b"GGUF" or struct.unpack_from("<I", self.data, 4)[0] != 3:
            sys.exit(f"export_hf.py: {path} is not a GGUF file of version 3")
        self.at = 8
        tensors, keys = self.scalar("Q"), self.scalar("Q")
        self.keys = {}
        for _ in range(keys):
            name = self.text()
            self.keys[name] = self.value(self.scalar("I"))
        self.tensors = {}
        for _ in range(tensors):
            name = self.text()
            dims = [self.scalar("Q") for _ in range(self.scalar("I"))]
            self.tensors[name] = (dims[::-1], self.scalar("I"), self.scalar("Q"))
        self.begin = (self.at + ALIGN - 1) // ALIGN * ALIGN

    def scalar(self, kind):
        value = struct.unpack_from("<" + kind, self.data, self.at)[0]
        self.at += struct.calcsize("<" + kind)
        return value

    def text(self):
        length = self.scalar("Q")
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def value(self, kind):
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            kind, count = self.scalar("I"), self.scalar("Q")
            return [self.value(kind) for _ in range(count)]
        return self.scalar(SCALARS[kind])

    def tensor(self, name):
        """In f32, rows first."""
        shape, kind, offset = self.tensors[name]
        count, at = int(np.prod(shape)), self.begin + offset
        if kind == F32:
            values = np.frombuffer(self.data, "<f4", count, at)
        elif kind == Q8_0:
            blocks = np.frombuffer(self.data, [("d", "<f2"), ("q", "i1", 32)], count // 32, at)
            values = blocks["d"].astype("f4")[:, None] * blocks["q"]
        elif kind == Q4_1:
            blocks = np.frombuffer(self.data, [("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)], count // 32, at)
            q = np.concatenate((blocks["q"] & 15, blocks["q"] >> 4), axis=1)  # low halves are the first 16
            values = blocks["d"].astype("f4")[:, None] * q + blocks["m"].astype("f4")[:, None]
        else:
            sys.exit(f"export_hf.py: {name} is stored in a way that is not known here ({kind})")
        return values.reshape(shape)


# --- weights -------------------------------------------------------------------------------------------------

PARTS = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def name_of(name):
    if name in OUTER:
        return OUTER[name]
    words = name.split(".")  # blk.7.attn_q.weight
    if len(words) != 4 or words[0] != "blk" or words[2] not in PARTS or words[3] != "weight":
        sys.exit(f"export_hf.py: tensor {name} is not known here")
    return f"model.layers.{words[1]}.{PARTS[words[2]]}.weight"


def halves(matrix, heads):
    """GGUF's Llama rotates neighbours, Hugging Face's the two halves of a head: put its rows back."""
    rows, cols = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def bf16(values):
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def write_weights(g, path, heads, kv_heads):
    table, bodies, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in g.tensors:
        values = g.tensor(name)
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            values = halves(values, heads if "attn_q" in name else kv_heads)
        body = bf16(values)
        table[name_of(name)] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [at, at + len(body)]}
        bodies.append(body)
        at += len(body)
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(head)) + head)
        out.writelines(bodies)


# --- everything else -----------------------------------------------------------------------------------------

def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        json.dump(value, out, ensure_ascii=False, indent=1)


def write_config(g, folder):
    k = {name.removeprefix("llama."): value for name, value in g.keys.items()}
    ends = {"bos_token_id": k["tokenizer.ggml.bos_token_id"], "eos_token_id": k["tokenizer.ggml.eos_token_id"],
            "pad_token_id": k["tokenizer.ggml.padding_token_id"]}
    write_json(folder, "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": k["embedding_length"], "intermediate_size": k["feed_forward_length"],
        "num_hidden_layers": k["block_count"], "num_attention_heads": k["attention.head_count"],
        "num_key_value_heads": k["attention.head_count_kv"], "head_dim": k["rope.dimension_count"],
        "max_position_embeddings": k["context_length"], "rope_theta": k["rope.freq_base"], "vocab_size": k["vocab_size"],
        "rms_norm_eps": round(k["attention.layer_norm_rms_epsilon"], 9), "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": True, "initializer_range": 0.02, "use_cache": True, **ends})
    write_json(folder, "generation_config.json", ends)


def write_tokenizer(g, folder):
    pieces, types = g.keys["tokenizer.ggml.tokens"], g.keys["tokenizer.ggml.token_type"]
    named = {what: pieces[g.keys[f"tokenizer.ggml.{key}_token_id"]]
             for what, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))}
    added = [{"id": i, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, piece in enumerate(pieces) if types[i] == CONTROL]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    write_json(folder, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": named["unk"], "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": g.keys["tokenizer.ggml.merges"]}})
    write_json(folder, "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False, "clean_up_tokenization_spaces": False,
        "model_max_length": g.keys["llama.context_length"], "chat_template": g.keys["tokenizer.chat_template"],
        **{f"{what}_token": piece for what, piece in named.items()}})


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: export_hf.py FILE.gguf DIR")
    path, folder = sys.argv[1], sys.argv[2]
    if os.path.isdir(folder):
        return
    g = Gguf(path)
    if g.keys["general.architecture"] != "llama" or "output.weight" in g.tensors:
        sys.exit("export_hf.py: the model is not a Llama whose head is its embedding")
    if (g.keys["tokenizer.ggml.model"], g.keys["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
        sys.exit("export_hf.py: the model's tokenizer is not known here")
    part = folder + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    write_weights(g, os.path.join(part, "model.safetensors"), g.keys["llama.attention.head_count"],
                  g.keys["llama.attention.head_count_kv"])
    write_config(g, part)
    write_tokenizer(g, part)
    os.rename(part, folder)


if __name__ == "__main__":
    main()
