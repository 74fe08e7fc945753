"""peer_vllm.py - vLLM as an engine that answers batches, for bench_vllm.py: the same lines as bench_streams.c's.
usage: peer_vllm.py DIR. vLLM's offline engine: no HTTP on either side. It may ask nobody for anything."""

import os
import sys

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1",
           "GLOO_SOCKET_IFNAME": "lo"}
LIMITS = {"VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_CPU_KVCACHE_SPACE": "1"}  # 2 threads, GiB


def main():
    os.environ.update({**OFFLINE, **LIMITS})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is no answer
    import vllm
    engine = vllm.LLM(model=sys.argv[1], dtype="bfloat16", max_model_len=4096, max_num_seqs=32, seed=0)
    for line in sys.stdin:
        tokens, streams, length, *ids = map(int, line.split())
        prompts = [{"prompt_token_ids": ids[i * length:(i + 1) * length]} for i in range(streams)]
        how = vllm.SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        done = engine.generate(prompts, how, use_tqdm=False)
        print(*(i for d in done for i in d.outputs[0].token_ids), file=answers, flush=True)


if __name__ == "__main__":  # vLLM starts its worker as a new interpreter that reads this file
    main()
