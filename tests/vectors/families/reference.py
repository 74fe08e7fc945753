"""reference.py - makes logits/ anew: the models of make.py through Hugging Face transformers on the CPU, in float64. Needs the
Python packages torch and transformers (the committed numbers: 2.15.0 and 5.23.0); the tests do not."""

import json
import pathlib
import struct
import tempfile

import torch
import transformers

import make

PROMPT, GREEDY = 80, 24


def load(folder, name):
    options = {"dtype": torch.float64, "attn_implementation": "eager", "experts_implementation": "eager"}
    if name.startswith("gptoss"):
        options["quantization_config"] = transformers.Mxfp4Config(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval().double()
    assert all(p.dtype == torch.float64 for p in model.parameters())
    return model


def main():
    out = make.HERE / "logits"
    out.mkdir(exist_ok=True)
    tokens = [1] + [(7 * i * i + 3 * i + 5) % (make.VOCAB - 3) + 3 for i in range(1, PROMPT)]
    (out / "tokens.txt").write_text("\n".join(map(str, tokens)) + "\n")
    manifest = []
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        for name in make.MODELS:
            folder = pathlib.Path(work, name)
            make.write_folder(folder, name)
            model = load(folder, name)
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0].double()
            ids, margin = list(tokens), 1e9
            for _ in range(GREEDY):
                row = model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()
                best = torch.topk(row, 2).values
                margin = min(margin, float(best[0] - best[1]))
                ids.append(int(torch.argmax(row)))
            flat = logits.flatten().tolist()
            (out / f"{name}.logits.f32").write_bytes(struct.pack(f"<{len(flat)}f", *flat))
            entry = {"name": name, "hf": f"models/tiny/{name}-hf", "logits": f"vectors/logits/{name}.logits.f32",
                     "shape": [PROMPT, make.VOCAB], "greedy": ids[PROMPT:], "greedy_min_margin": margin,
                     "source": f"transformers {transformers.__version__}, float64"}
            if name in make.GGUF:
                entry["gguf"] = f"models/tiny/{make.gguf_file(name)}"
            manifest.append(entry)
            print(name, "logits", float(logits.abs().max()), "std", float(logits.std()), "margin", margin, "distinct", len(set(ids[PROMPT:])))
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
