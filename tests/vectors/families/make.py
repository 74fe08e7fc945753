"""make.py FOLDER - tiny models with random weights, one for each peculiarity of a family that no reference elsewhere covers,
in the layout that vectors_logits walks: FOLDER/models/tiny/NAME-hf (config.json, safetensors in BF16) and, where the names
in GGUF differ, NAME.gguf (F32). The weights are the same on every machine: random.Random of the model's name. Their logits
are beside this file, by reference.py. Plain Python: the tests run it."""

import json
import math
import pathlib
import random
import shutil
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
VOCAB, EMBED, HEADS, KV_HEADS, HEAD, FFN = 64, 64, 4, 2, 32, 96
WINDOW = 24  # shorter than the prompt of 80

BASE = {"hidden_size": EMBED, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": VOCAB,
        "intermediate_size": FFN, "num_hidden_layers": 3, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "hidden_act": "silu"}
GEMMA = {"tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": WINDOW}
MOE = {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 8, "num_experts_per_tok": 3,
       "moe_intermediate_size": 64, "decoder_sparse_step": 1, "mlp_only_layers": []}
PHI = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
       "original_max_position_embeddings": 48}


def long_rope(pairs):
    return {"type": "longrope", "short_factor": [1 + 0.05 * i for i in range(pairs)], "long_factor": [1.5 + 0.4 * i for i in range(pairs)]}


MODELS = {
    "gemma2-softcap": {**GEMMA, "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "num_hidden_layers": 4,
                       "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma3-linear": {**GEMMA, "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "num_hidden_layers": 4,
                      "query_pre_attn_scalar": 40, "sliding_window_pattern": 2, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
                      "layer_types": ["sliding_attention", "full_attention"] * 2, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "qwen3moe-renormalized": {**MOE, "norm_topk_prob": True},
    "qwen3moe-plain": {**MOE, "norm_topk_prob": False, "num_hidden_layers": 2},
    "mistral-window": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": WINDOW},
    "mistral-nowindow": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None, "num_hidden_layers": 2},
    "mixtral-window": {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "sliding_window": WINDOW, "num_local_experts": 4,
                       "num_experts_per_tok": 2, "num_hidden_layers": 2},
    "qwen2-yarn": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False,
                   "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    "qwen2-window": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": WINDOW,
                     "max_window_layers": 1},
    "phi3-short": {**PHI, "max_position_embeddings": 160 * 8, "original_max_position_embeddings": 160, "rope_scaling": long_rope(16)},
    "phi4-long": {**PHI, "max_position_embeddings": 48 * 8, "partial_rotary_factor": 0.75, "rope_scaling": long_rope(12),
                  "tie_word_embeddings": True},
    "gptoss-packed-MXFP4": {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "num_local_experts": 6, "num_experts_per_tok": 4,
                      "sliding_window": WINDOW, "attention_bias": True, "swiglu_limit": 7.0, "num_hidden_layers": 4, "rope_theta": 150000.0,
                      "layer_types": ["sliding_attention", "full_attention"] * 2, "quantization_config": {"quant_method": "mxfp4"},
                      "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                                       "original_max_position_embeddings": 64}},
}
SHARDED = {"mistral-window": 3}  # in so many .safetensors files with an index
GGUF = {"gemma2-softcap": "gemma2", "qwen3moe-renormalized": "qwen3moe"}
SPLIT = {"qwen3moe-renormalized": 3}  # in so many .gguf files


def config_of(name):
    return {**BASE, **MODELS[name]}


# --- weights ---------------------------------------------------------------------------------------

def shapes(c):
    """Tensor name -> (shape, middle, greatest distance from it, kind)."""
    kind, out = c["model_type"], {}
    q, kv, gemma = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"], c["model_type"].startswith("gemma")
    embed, ffn = c["hidden_size"], c["intermediate_size"]

    def put(name, *shape, middle=0.0, spread=None, kind="BF16"):
        out[name] = (shape, middle, spread or 1.0 / 2 ** round(math.log2(shape[-1]) / 2 - 1), kind)

    def norm(name, n):
        put(name, n, middle=0.0 if gemma else 1.0, spread=0.5)

    put("model.embed_tokens.weight", c["vocab_size"], embed, spread=0.125 if gemma else 1.0)
    norm("model.norm.weight", embed)
    if not c["tie_word_embeddings"]:
        put("lm_head.weight", c["vocab_size"], embed)
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        attention, mlp = at + "self_attn.", at + "mlp."
        norm(at + "input_layernorm.weight", embed)
        norm(at + "post_attention_layernorm.weight", embed)
        if gemma:
            norm(at + "pre_feedforward_layernorm.weight", embed)
            norm(at + "post_feedforward_layernorm.weight", embed)
        if kind == "phi3":
            put(attention + "qkv_proj.weight", q + 2 * kv, embed, spread=0.125)
        else:
            for part, rows in (("q", q), ("k", kv), ("v", kv)):
                put(f"{attention}{part}_proj.weight", rows, embed, spread=0.125)
                if kind in ("qwen2", "gpt_oss"):
                    put(f"{attention}{part}_proj.bias", rows, spread=0.5)
        put(attention + "o_proj.weight", embed, q)
        if kind == "gpt_oss":
            put(attention + "o_proj.bias", embed, spread=0.5)
            put(attention + "sinks", c["num_attention_heads"], spread=2.0)
        if kind in ("gemma3_text", "qwen3_moe"):
            norm(attention + "q_norm.weight", c["head_dim"])
            norm(attention + "k_norm.weight", c["head_dim"])
        if kind == "qwen3_moe":
            put(mlp + "gate.weight", c["num_experts"], embed, spread=0.5)
            for e in range(c["num_experts"]):
                put(f"{mlp}experts.{e}.gate_proj.weight", c["moe_intermediate_size"], embed)
                put(f"{mlp}experts.{e}.up_proj.weight", c["moe_intermediate_size"], embed)
                put(f"{mlp}experts.{e}.down_proj.weight", embed, c["moe_intermediate_size"])
        elif kind == "mixtral":
            moe = at + "block_sparse_moe."
            put(moe + "gate.weight", c["num_local_experts"], embed, spread=0.5)
            for e in range(c["num_local_experts"]):
                for w, shape in (("w1", (ffn, embed)), ("w3", (ffn, embed)), ("w2", (embed, ffn))):
                    put(f"{moe}experts.{e}.{w}.weight", *shape)
        elif kind == "gpt_oss":
            put(mlp + "router.weight", c["num_local_experts"], embed, spread=0.5)
            put(mlp + "router.bias", c["num_local_experts"], spread=0.5)
            for part, rows, cols in (("gate_up_proj", 2 * ffn, embed), ("down_proj", embed, ffn)):
                put(f"{mlp}experts.{part}_blocks", c["num_local_experts"], rows, cols // 32, 16, kind="U8")
                put(f"{mlp}experts.{part}_scales", c["num_local_experts"], rows, cols // 32, middle=122, spread=2, kind="U8")
                put(f"{mlp}experts.{part}_bias", c["num_local_experts"], rows, spread=0.5)
        elif kind == "phi3":
            put(mlp + "gate_up_proj.weight", 2 * ffn, embed)
            put(mlp + "down_proj.weight", embed, ffn)
        else:
            for part, shape in (("gate", (ffn, embed)), ("up", (ffn, embed)), ("down", (embed, ffn))):
                put(f"{mlp}{part}_proj.weight", *shape)
    return out


def bf16(value):
    return struct.pack("<f", value)[2:]  # exact: our values have few bits


def tensor_bytes(rng, shape, middle, spread, kind):
    raw = rng.getrandbits(8 * math.prod(shape)).to_bytes(math.prod(shape), "little")
    if kind == "U8":
        return raw if not spread or middle == 0 else bytes(middle + b % (2 * spread) for b in raw)
    table = [bf16(middle + (b // 4 - 32) / 32 * spread) for b in range(256)]
    return b"".join(table[b] for b in raw)


def weights(name):
    """Tensor name -> (dtype, shape, bytes), in the order of the names."""
    rng, out = random.Random(name), {}
    for tensor, (shape, middle, spread, kind) in sorted(shapes(config_of(name)).items()):
        out[tensor] = (kind, shape, tensor_bytes(rng, shape, middle, spread, kind))
    return out


# --- files -----------------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def write_folder(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(name), indent=1))
    tensors, parts = weights(name), SHARDED.get(name, 1)
    if parts == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names, place = list(tensors), {}
    for i in range(parts):
        file = f"model-{i + 1:05}-of-{parts:05}.safetensors"
        mine = names[i::parts]
        write_safetensors(folder / file, {n: tensors[n] for n in mine})
        place.update({n: file for n in mine})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))


def floats_of(data):
    return [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0] for i in range(0, len(data), 2)]


def gguf_tensors(name):
    """GGUF name -> (shape, floats). Gemma's norms hold the 1 that its safetensors leave out."""
    gemma = name.startswith("gemma")
    plain = {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm" if gemma else "ffn_norm",
             "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
             "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "mlp.gate": "ffn_gate_inp"}
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    out, stacks = {}, {}
    for tensor, (_, shape, data) in weights(name).items():
        values, stem = floats_of(data), tensor.removesuffix(".weight")
        if gemma and "norm" in stem:
            values = [v + 1 for v in values]
        if stem in whole:
            out[whole[stem] + ".weight"] = (shape, values)
            continue
        layer, part = stem.removeprefix("model.layers.").split(".", 1)
        if part.startswith("mlp.experts."):
            expert, which = part.removeprefix("mlp.experts.").split(".")
            stacks.setdefault(f"blk.{layer}.ffn_{which.removesuffix('_proj')}_exps.weight", {})[int(expert)] = (shape, values)
        else:
            out[f"blk.{layer}.{plain[part]}.weight"] = (shape, values)
    for key, experts in stacks.items():
        out[key] = ((len(experts), *experts[0][0]), [v for e in sorted(experts) for v in experts[e][1]])
    return out


def write_gguf(folder, name, arch):
    c, numbers = config_of(name), {}
    numbers["block_count"], numbers["embedding_length"], numbers["context_length"] = c["num_hidden_layers"], EMBED, 256
    numbers["attention.head_count"], numbers["attention.head_count_kv"] = c["num_attention_heads"], c["num_key_value_heads"]
    numbers["attention.key_length"] = numbers["attention.value_length"] = c["head_dim"]
    numbers["feed_forward_length"] = c["intermediate_size"]
    numbers["attention.layer_norm_rms_epsilon"] = c["rms_norm_eps"]
    if arch == "gemma2":
        numbers["attention.sliding_window"] = c["sliding_window"]
        numbers["attn_logit_softcapping"], numbers["final_logit_softcapping"] = c["attn_logit_softcapping"], c["final_logit_softcapping"]
        numbers["attention.scale"] = c["query_pre_attn_scalar"] ** -0.5
    else:
        numbers["expert_count"], numbers["expert_used_count"] = c["num_experts"], c["num_experts_per_tok"]
        numbers["expert_feed_forward_length"] = c["moe_intermediate_size"]

    keys = [gguf_key("general.architecture", arch)] + [gguf_key(f"{arch}.{key}", value) for key, value in numbers.items()]
    tensors = list(gguf_tensors(name).items())
    parts = SPLIT.get(name, 1)
    if parts == 1:
        write_gguf_file(folder / gguf_file(name), keys, tensors)
    for i in range(parts if parts > 1 else 0):
        split = [gguf_key("split.no", i), gguf_key("split.count", parts), gguf_key("split.tensors.count", len(tensors))]
        write_gguf_file(folder / gguf_file(name, i), split + (keys if i == 0 else []), tensors[i::parts])


def gguf_file(name, i=0):
    return f"{name}-{i + 1:05}-of-{SPLIT[name]:05}.gguf" if name in SPLIT else f"{name}.gguf"


def gguf_text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf_key(key, value):
    if isinstance(value, str):
        return gguf_text(key) + struct.pack("<I", 8) + gguf_text(value)
    return gguf_text(key) + (struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value))


def write_gguf_file(path, keys, tensors):
    records, data = [], b""
    for tensor, (shape, values) in tensors:
        records.append(gguf_text(tensor) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape)) +
                       struct.pack("<IQ", 0, len(data)))
        data += struct.pack(f"<{len(values)}f", *values)
        data += b"\0" * (-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(records)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)


def main():
    top = pathlib.Path(sys.argv[1])
    models, vectors = top / "models" / "tiny", top / "vectors" / "logits"
    models.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        write_folder(models / f"{name}-hf", name)
        if name in GGUF:
            write_gguf(models, name, GGUF[name])
    shutil.copytree(HERE / "logits", vectors, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
