#!/usr/bin/env python3
"""Trains the model and writes it as GGUF. README.md beside this file says how it was made.

Llama's architecture: RMSNorm, rotary positions (pairs of neighbours), SwiGLU, one matrix for tokens in and out. The loss is
that of the text alone, copied words counted twice. Hidden matrices learn by Muon (momentum whose update is made orthogonal), the rest by AdamW.
"""
import argparse
import json
import math
import os
import pickle
import random
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import corpus
import gguf
import tokenizer as tk

EPS, BASE = 1e-5, 10000.0


class Model(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        d, f = c["dim"], c["hidden"]

        def m(rows, cols, scale=1.0):
            return torch.nn.Parameter(torch.randn(rows, cols) * scale / math.sqrt(cols))

        out = 1 / math.sqrt(2 * c["layers"])
        self.emb = torch.nn.Parameter(torch.randn(c["vocab"], d) * 0.05)
        self.norm = torch.nn.Parameter(torch.ones(d))
        self.layers = torch.nn.ModuleList()
        for _ in range(c["layers"]):
            p = torch.nn.ParameterDict({
                "attn_norm": torch.nn.Parameter(torch.ones(d)), "attn_q": m(d, d), "attn_k": m(d, d), "attn_v": m(d, d), "attn_output": m(d, d, out),
                "ffn_norm": torch.nn.Parameter(torch.ones(d)), "ffn_gate": m(f, d), "ffn_up": m(f, d), "ffn_down": m(d, f, out)})
            self.layers.append(p)

    def forward(self, ids, pick=None):
        """ids [B,T] -> logits, of the picked positions (flat indices) alone where pick is given"""
        c = self.c
        B, T = ids.shape
        H, D = c["heads"], c["dim"] // c["heads"]
        spin = rotary(T, D, ids.device)
        mask = torch.full((T, T), -1e9, device=ids.device).triu(1)
        x = F.embedding(ids, self.emb).float()
        for p in self.layers:
            h = rms(x, p["attn_norm"])
            qkv = F.linear(h, torch.cat([p["attn_q"], p["attn_k"], p["attn_v"]])).view(B, T, 3 * H, D)
            qk, v = qkv.split([2 * H, H], 2)
            q, k = turn(qk, spin).transpose(1, 2).split([H, H], 1)
            v = v.transpose(1, 2)
            a = torch.matmul(q, k.transpose(-1, -2)).float() + mask
            o = torch.matmul(a.softmax(-1), v).transpose(1, 2).reshape(B, T, H * D)
            x = x + F.linear(o, p["attn_output"])
            h = rms(x, p["ffn_norm"])
            g, u = F.linear(h, torch.cat([p["ffn_gate"], p["ffn_up"]])).chunk(2, -1)
            x = x + F.linear(F.silu(g) * u, p["ffn_down"])
        if pick is not None:
            x = x.reshape(B * T, -1).index_select(0, pick)
        return F.linear(rms(x, self.norm), self.emb).float()


def rms(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w


def rotary(T, D, device):
    """turns of each pair by position; the root of 1/sqrt(D), by which attention divides, is in them"""
    t = torch.arange(T, device=device).float()[:, None] * BASE ** (-torch.arange(0, D, 2, device=device).float() / D)
    return torch.polar(torch.full_like(t, D ** -0.25), t)[:, None]


def turn(x, spin):
    x = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(x * spin).flatten(-2)


def orthogonal(g, steps=5):
    """Newton-Schulz, as Muon does it"""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    for _ in range(steps):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.transpose(-1, -2) if tall else x).float()


class Muon:
    def __init__(self, params):
        self.groups = {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.m = {s: torch.zeros(len(ps), *s, device=ps[0].device) for s, ps in self.groups.items()}

    def step(self, lr, decay):
        for s, ps in self.groups.items():
            g = torch.stack([p.grad for p in ps])
            m = self.m[s].mul_(0.95).add_(g, alpha=0.05)
            u = g.mul(0.05).add(m, alpha=0.95)
            for p, x in zip(ps, u):
                p.data.mul_(1 - lr * decay).add_(orthogonal(x), alpha=-lr * max(1, s[0] / s[1]) ** 0.5)


class Source:
    """batches of about the same length"""

    def __init__(self, tok, seed, tokens):
        self.tok, self.r, self.tokens, self.pool = tok, random.Random(seed), tokens, []

    def one(self, copying):
        r, tok = self.r, self.tok
        if r.random() < copying:
            name, tags = corpus.plain(r)
            text = tok.encode(" " + ", ".join([name] + tags))
            prompt = tok.prompt(name, tags, tk.COPY)
        else:
            name, tags, text = corpus.example(r)
            prompt, text = tok.prompt(name, tags), tok.encode(" " + text)
        return prompt, text + [tk.END], self.weights(name, tags, text)

    def weights(self, name, tags, text):
        """copied tokens count twice: the rest is a free choice of sentences"""
        w = [1.0] * (len(text) + 1)
        for term in [name] + tags:
            t = self.tok.encode(" " + term)
            for i in range(len(text) - len(t) + 1):
                if text[i] == t[0] and text[i:i + len(t)] == t:
                    w[i:i + len(t)] = [2.0] * len(t)
        return w

    def batch(self, copying):
        if not self.pool:
            some = [x for x in (self.one(copying) for _ in range(400)) if len(x[0]) + len(x[1]) <= 256]
            some.sort(key=lambda x: len(x[0]) + len(x[1]))
            at = 0
            while at < len(some):
                p, t, _ = some[min(len(some) - 1, at + 32)]
                n = max(1, self.tokens // (len(p) + len(t)))
                self.pool.append(some[at:at + n])
                at += n
            self.r.shuffle(self.pool)
        b = self.pool.pop()
        T = max(len(p) + len(t) for p, t, _ in b) - 1
        ids = torch.zeros(len(b), T, dtype=torch.long)
        pick, want, weight = [], [], []
        for i, (p, t, w) in enumerate(b):
            all_ = p + t
            ids[i, :len(all_) - 1] = torch.tensor(all_[:-1])
            pick += range(i * T + len(p) - 1, i * T + len(all_) - 1)
            want += t
            weight += w
        return ids, torch.tensor(pick), torch.tensor(want), torch.tensor(weight)


def uses(text, name, tags):
    return all(x.lower() in text.lower() for x in [name] + tags)


@torch.no_grad()
def greedy(model, tok, prompts, device, most=110):
    """texts for prompts, all at once"""
    rows = [tok.prompt(p["name"], p["tags"]) for p in prompts]
    start = [len(r) for r in rows]
    done = [False] * len(rows)
    for _ in range(most):
        T = max(map(len, rows))
        ids = torch.zeros(len(rows), T, dtype=torch.long)
        for i, r in enumerate(rows):
            ids[i, :len(r)] = torch.tensor(r)
        pick = torch.tensor([i * T + len(r) - 1 for i, r in enumerate(rows)])
        with torch.autocast(device.type, torch.bfloat16):
            best = model(ids.to(device), pick.to(device)).argmax(-1).tolist()
        for i, t in enumerate(best):
            if not done[i]:
                done[i] = t == tk.END
                if not done[i]:
                    rows[i].append(t)
        if all(done):
            break
    return [tok.decode(r[s:])[1:] for r, s in zip(rows, start)]


def export(model, tok, path):
    c = model.c
    names = tk.byte_names()

    def spell(b):
        return "".join(names[x] for x in b)
    n = len(tk.SPECIAL)
    fields = [
        ("general.architecture", gguf.STRING, "llama"), ("general.name", gguf.STRING, "tiny-writer"), ("general.file_type", gguf.U32, 1),
        ("general.description", gguf.STRING, "Drafts product descriptions. Prompt: <|name|> NAME<|tag|> TAG<|tag|> TAG<|text|>"),
        ("llama.vocab_size", gguf.U32, c["vocab"]), ("llama.context_length", gguf.U32, c["context"]), ("llama.embedding_length", gguf.U32, c["dim"]),
        ("llama.block_count", gguf.U32, c["layers"]), ("llama.feed_forward_length", gguf.U32, c["hidden"]),
        ("llama.rope.dimension_count", gguf.U32, c["dim"] // c["heads"]), ("llama.rope.freq_base", gguf.F32, BASE),
        ("llama.attention.head_count", gguf.U32, c["heads"]), ("llama.attention.head_count_kv", gguf.U32, c["heads"]),
        ("llama.attention.layer_norm_rms_epsilon", gguf.F32, EPS),
        ("tokenizer.ggml.model", gguf.STRING, "gpt2"), ("tokenizer.ggml.pre", gguf.STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", gguf.STRING, tk.SPECIAL + [spell(t) for t in tok.tokens[n:]]),
        ("tokenizer.ggml.token_type", gguf.I32, [3] * n + [1] * (len(tok.tokens) - n)),
        ("tokenizer.ggml.merges", gguf.STRING, [spell(a) + " " + spell(b) for a, b in tok.merges]),
        ("tokenizer.ggml.bos_token_id", gguf.U32, tk.END), ("tokenizer.ggml.eos_token_id", gguf.U32, tk.END),
        ("tokenizer.ggml.padding_token_id", gguf.U32, tk.END), ("tokenizer.ggml.add_bos_token", gguf.BOOL, False),
    ]
    tensors = [("token_embd.weight", model.emb), ("output_norm.weight", model.norm)]
    for i, p in enumerate(model.layers):
        tensors += [(f"blk.{i}.{k}.weight", v) for k, v in p.items()]
    gguf.write(path, fields, [(k, v.detach().cpu().numpy()) for k, v in tensors])


@torch.no_grad()
def reference(model, tok, path):
    """what another implementation must compute from the file: its matrices are f16"""
    half = Model(model.c)
    half.load_state_dict({k: v.cpu().half().float() if v.dim() == 2 else v.cpu() for k, v in model.state_dict().items()})
    out = []
    for name, tags in (("Salty Sailor rope", ["dog", "toy", "rope"]), ("Šaltý Qorvex 300", ["zibble", "eco-friendly", "犬"])):
        ids = tok.prompt(name, tags)
        logits = half(torch.tensor([ids]))[0, -1]
        words = list(ids)
        while len(words) < len(ids) + 60:
            words.append(int(half(torch.tensor([words]))[0, -1].argmax()))
            if words[-1] == tk.END:
                break
        out.append({"name": name, "tags": tags, "prompt": ids, "logits": [round(x, 5) for x in logits[:64].tolist()], "greedy": words[len(ids):]})
    with open(path, "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False)
        f.write("\n")


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--out", default="out")
    p.add_argument("--minutes", type=float, default=0, help="learning rate by the clock: for a machine that is shared")
    p.add_argument("--steps", type=int, default=6000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=4096, help="of a batch")
    p.add_argument("--lr", type=float, default=0.02)
    p.add_argument("--copying", type=float, default=0.5, help="share of exercises in copying at the start; it falls to a twentieth")
    p.add_argument("--workers", type=int, default=1, help="processes that train side by side with the same --out, each with its --rank")
    p.add_argument("--rank", type=int, default=0)
    p.add_argument("--meet", type=int, default=25, help="steps after which workers take the mean of their weights")
    p.add_argument("--resume", help="a checkpoint to go on from")
    for k, v in (("dim", 160), ("layers", 4), ("heads", 5), ("hidden", 416), ("vocab", 1024)):
        p.add_argument("--" + k, type=int, default=v)
    return p.parse_args()


def vocabulary(a):
    path = os.path.join(a.out, "tokenizer.pickle")
    if not os.path.exists(path):
        tok = tk.train(a.vocab)
        with open(path, "wb") as f:
            pickle.dump(tok.merges, f)
    with open(path, "rb") as f:
        return tk.Tokenizer(pickle.load(f))


def meet(a, model, turn):
    """takes the mean of all workers' weights; one that is gone is not waited for long"""
    def name(rank):
        return os.path.join(a.out, f"meet-{turn}-{rank}.pt")
    torch.save(model.state_dict(), name(a.rank) + ".new")
    os.rename(name(a.rank) + ".new", name(a.rank))
    all_, until = [], time.time() + 120
    for rank in range(a.workers):
        while not os.path.exists(name(rank)) and time.time() < until:
            time.sleep(0.1)
        if os.path.exists(name(rank)):
            all_.append(torch.load(name(rank), map_location="cpu"))
    model.load_state_dict({k: sum(s[k] for s in all_) / len(all_) for k in all_[0]})
    old = os.path.join(a.out, f"meet-{turn - 2}-{a.rank}.pt")
    if os.path.exists(old):
        os.remove(old)


def main():
    a = options()
    os.makedirs(a.out, exist_ok=True)
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tok = vocabulary(a)
    model = Model({"dim": a.dim, "layers": a.layers, "heads": a.heads, "hidden": a.hidden, "vocab": a.vocab, "context": 512}).to(device)
    if a.resume:
        model.load_state_dict(torch.load(a.resume, map_location=device))
    hidden = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "emb"]
    rest = [p for n, p in model.named_parameters() if p.dim() == 1 or n == "emb"]
    muon, adam = Muon(hidden), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98), weight_decay=0)
    rng = random.Random(20260 + 99)
    held = corpus.Maker(rng, unseen=True)
    test = []
    while len(test) < 16:
        name, _, _, tags, _ = held.product()
        if tags:
            test.append({"name": name, "tags": tags})
    source = Source(tok, a.seed + 1000 * a.rank, a.tokens)
    print(f"{sum(p.numel() for p in model.parameters())} parameters on {device}", flush=True)
    began, step, seen, mean, last = time.time(), 0, 0, None, time.time()
    while True:
        gone = (time.time() - began) / 60 / a.minutes if a.minutes else step / a.steps
        if gone >= 1:
            break
        rate = min(1, (step + 1) / 100) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * gone)))
        copying = a.copying * max(0.1, 1 - gone / 0.3)
        ids, pick, want, weight = (x.to(device) for x in source.batch(copying))
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(ids, pick)
        loss = (F.cross_entropy(logits, want, reduction="none") * weight).sum() / weight.sum()
        for p in model.parameters():
            p.grad = None
        loss.backward()
        muon.step(a.lr * rate, 0.02)
        adam.param_groups[0]["lr"] = 4e-3 * rate
        adam.step()
        step, seen = step + 1, seen + ids.numel()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 25 == 0:
            print(f"{step:6d} {gone:5.1%} loss {mean:.4f} {seen / (time.time() - began):.0f} tokens/s", flush=True)
        if a.workers > 1 and step % a.meet == 0:
            meet(a, model, step // a.meet)
        if a.rank == 0 and time.time() - last > 400:
            check(model, tok, test, device, a.out)
            last = time.time()
    if a.rank == 0:
        check(model, tok, test, device, a.out)
    print(f"done: {step} steps, {seen} tokens, {time.time() - began:.0f} s")


def check(model, tok, test, device, out):
    texts = greedy(model, tok, test, device)
    good = sum(uses(t, p["name"], p["tags"]) for t, p in zip(texts, test))
    for p, t in list(zip(test, texts))[:3]:
        print(f"  {p['name']} {p['tags']}\n    {t}")
    print(f"  {good} of {len(test)} use all", flush=True)
    torch.save(model.state_dict(), os.path.join(out, "model.pt"))
    export(model, tok, os.path.join(out, "tiny-writer.gguf"))
    reference(model, tok, os.path.join(out, "reference.json"))


if __name__ == "__main__":
    sys.exit(main())
