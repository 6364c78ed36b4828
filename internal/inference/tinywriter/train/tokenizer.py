"""Byte-level BPE as GPT-2 has it: a word is split off with the space before it, its bytes are joined by rank. Any text can be
written, if need be byte by byte. Four tokens come first that no text can hold."""
import collections
import random
import re

import corpus

SPECIAL = ["<|end|>", "<|name|>", "<|tag|>", "<|text|>", "<|copy|>"]
END, NAME, TAG, TEXT, COPY = range(5)
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_names():
    """GPT-2's printable name of each byte"""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    names, n = {}, 0
    for b in range(256):
        if b in keep:
            names[b] = chr(b)
        else:
            names[b] = chr(256 + n)
            n += 1
    return names


class Tokenizer:
    def __init__(self, merges):
        self.merges = merges  # pairs of bytes
        self.tokens = [s.encode() for s in SPECIAL] + [bytes([b]) for b in range(256)] + [a + b for a, b in merges]
        self.ids = {t: i for i, t in enumerate(self.tokens) if i >= len(SPECIAL)}
        self.rank = {m: i for i, m in enumerate(merges)}
        self.cache = {}

    def word(self, w):
        if w in self.cache:
            return self.cache[w]
        parts = [bytes([b]) for b in w.encode()]
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: self.rank.get((parts[i], parts[i + 1]), 1 << 30))
            if (parts[best], parts[best + 1]) not in self.rank:
                break
            parts[best:best + 2] = [parts[best] + parts[best + 1]]
        out = [self.ids[p] for p in parts]
        if len(self.cache) < 200000:
            self.cache[w] = out
        return out

    def encode(self, text):
        return [t for w in SPLIT.findall(text) for t in self.word(w)]

    def decode(self, ids):
        return b"".join(self.tokens[i] for i in ids if i >= len(SPECIAL)).decode("utf-8", "replace")

    def prompt(self, name, tags, last=TEXT):
        ids = [NAME] + self.encode(" " + name)
        for t in tags:
            ids += [TAG] + self.encode(" " + t)
        return ids + [last]


def train(size, seed=7, count=20000):
    """finds the merges on examples of the corpus"""
    rng = random.Random(seed)
    freq = collections.Counter()
    for _ in range(count):
        name, tags, text = corpus.example(rng)
        for s in [" " + name, " " + text] + [" " + t for t in tags]:
            freq.update(SPLIT.findall(s))
    words = [([bytes([b]) for b in w.encode()], n) for w, n in sorted(freq.items())]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (parts, n) in enumerate(words):
        for p in zip(parts, parts[1:]):
            pairs[p] += n
            where[p].add(i)
    merges = []
    while len(merges) < size - 256 - len(SPECIAL):
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for i in where.pop(best):
            parts, n = words[i]
            for p in zip(parts, parts[1:]):
                pairs[p] -= n
            j, new = 0, []
            while j < len(parts):
                if j + 1 < len(parts) and (parts[j], parts[j + 1]) == best:
                    new.append(parts[j] + parts[j + 1])
                    j += 2
                else:
                    new.append(parts[j])
                    j += 1
            words[i] = (new, n)
            for p in zip(new, new[1:]):
                pairs[p] += n
                where[p].add(i)
        del pairs[best]
    return Tokenizer(merges)
