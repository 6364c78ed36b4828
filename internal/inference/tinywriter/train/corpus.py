#!/usr/bin/env python3
"""Makes the corpus: products and what is said of them, the same for the same seed.

    corpus.py --seed 1 --count 5         shows examples
    corpus.py --heldout ../testdata/heldout.json    writes the prompts that the model is measured with

Half of the names and tags are made up, so that the model can't know them by heart and has to learn to copy. Made-up words
whose hash falls into the held-out tenth are never shown in training; the measured prompts are made of these alone.
"""
import argparse
import json
import random
import zlib

import lexicon as L

ONSET = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn sp st str sv t th tr tw v vl w wh x y z zh".split()
VOWEL = "a e i o u a e i o ai au ea ee ei eu ia ie io oa oo ou ui y ae".split()
CODA = ["", "", "", "", "b", "ck", "d", "f", "ff", "g", "k", "l", "ll", "m", "n", "nd", "ng", "nk", "nt", "p", "r", "rk", "rn", "rt", "s", "ss", "st", "t", "th", "v", "x", "z"]
SCRIPTS = [(0xC0, 0xF6), (0xF8, 0x17F), (0x391, 0x3A1), (0x3B1, 0x3C9), (0x410, 0x44F), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x5D0, 0x5EA)]
OTHER = "red blue market silver price shop sale winter offer limited new best quick easy home fast local global daily extra".split()


def held(word):
    """says whether a made-up word is kept for measuring"""
    return zlib.crc32(word.lower().encode()) % 10 == 0


class Maker:
    """makes products of words that are seen in training, or (unseen) never are"""

    def __init__(self, rng, unseen=False):
        self.r, self.unseen = rng, unseen

    def fresh(self):
        """a made-up word"""
        while True:
            w = self._fresh()
            if len(w.encode()) >= 3 and held(w) == self.unseen:
                return w

    def _fresh(self):
        r = self.r
        x = r.random()
        if x < 0.80:  # syllables
            return "".join(r.choice(ONSET) + r.choice(VOWEL) + r.choice(CODA) for _ in range(r.choice((1, 1, 2, 2, 2, 3))))
        if x < 0.87:  # letters
            return "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randint(3, 9)))
        if x < 0.91:  # a model's number
            return "".join(r.choice("ABCDEFGHKLMNPRSTVXZ") for _ in range(r.randint(1, 3))) + r.choice(("", "-", " ")) + str(r.randint(2, 9999))
        if x < 0.93:
            return str(r.randint(100, 99999))
        if x < 0.95:  # with punctuation in it
            a, b = r.randint(1, 99), r.randint(1, 99)
            w = "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randint(2, 5)))
            return r.choice((f"{a}.{b} {w}", f"{a}-{b} {w}", f"{a}-in-{b}", f"{w} {a}+", f"{a}{w.upper()}", f"{w}+{w[::-1]}", f"{w}'s {w[::-1]}", f"{w} & {w[::-1]}", f"{w}/{a}"))
        lo, hi = r.choice(SCRIPTS)
        return "".join(chr(r.randint(lo, hi)) for _ in range(r.randint(1, 6)))

    def case(self, w, name):
        x = self.r.random()
        if name:
            return w.capitalize() if x < 0.75 else w.upper() if x < 0.80 else w if x < 0.95 else w[:2].capitalize() + w[2:].capitalize()
        return w if x < 0.86 else w.capitalize() if x < 0.96 else w.upper()

    def name(self, invented):
        """-> name, category, plural"""
        r = self.r
        cat = r.choice(list(L.HEADS))
        one, many = (L.words(s) for s in L.HEADS[cat])
        plural = r.random() < 0.18
        head = r.choice(many if plural else one)
        if not self.unseen and r.random() < 0.5:
            head = head.title() if "USB" not in head else head
        parts = []
        if r.random() < invented:
            parts = [self.case(self.fresh(), True) for _ in range(r.choice((1, 1, 2, 2, 3)))]
            if r.random() < 0.25:
                parts.insert(0, r.choice(L.FIRST))
            if self.unseen and r.random() < 0.5 or not self.unseen and r.random() < 0.45:
                head, cat, plural = "", "any", False
        else:
            parts = [r.choice(L.FIRST)] if r.random() < 0.7 else [r.choice(L.BRANDS)]
            if r.random() < 0.55:
                parts.append(r.choice(L.SECOND))
            if r.random() < 0.12:
                head, cat, plural = "", "any", False
            if r.random() < 0.08:
                parts.insert(0, "The")
        if r.random() < 0.06:
            parts.append(str(r.choice((2, 3, 5, 7, 10, 12, 20, 50, 90, 100, 360, 500, 2000))))
        if head:
            parts.append(head)
        return " ".join(parts), cat, plural

    def tag(self, invented):
        """-> tag, kind"""
        r = self.r
        if r.random() < invented:
            n = r.choice((1, 1, 1, 1, 2, 2, 3)) if not self.unseen else r.choice((1, 1, 1, 2))
            parts = [self.case(self.fresh(), False) for _ in range(n)]
            if n > 1 and r.random() < 0.3:
                return "-".join(parts), "any"
            if r.random() < 0.15:
                parts.insert(r.randint(0, len(parts)), r.choice(OTHER + L.TAGS["what"]))
            return " ".join(parts), "any"
        x = r.random()
        if x < 0.12:  # known words together are a tag of no known kind
            return " ".join(r.sample(OTHER + L.TAGS["what"] + L.TAGS["use"], r.choice((1, 2, 2)))), "any"
        kind = r.choice(("who", "people", "adj", "adj", "adj", "made", "what", "what", "use", "use", "place", "feat", "things"))
        t = r.choice(L.TAGS[kind])
        if r.random() < 0.12:
            t = t[0].upper() + t[1:] if r.random() < 0.8 else t.upper()
            return t, kind if r.random() < 0.7 else "any"
        return t, kind if r.random() < 0.9 else "any"

    def product(self):
        r = self.r
        style = 1.0 if self.unseen else r.choice((0.0, 0.0, 0.5, 1.0, 1.0))
        name, cat, plural = self.name(style)
        count = r.choices(range(9), (4, 12, 20, 28, 18, 10, 5, 2, 1))[0]
        tags, kinds = [], []
        while len(tags) < count:
            t, k = self.tag(0.0 if style == 0 else style if self.unseen else style * 0.85)
            if t.lower() not in (o.lower() for o in tags):
                tags.append(t)
                kinds.append(k)
        return name, cat, plural, tags, kinds


def article(word):
    w = word.lower()
    return "an" if w[:1] in tuple("aeio") or w[:1] == "u" and w[:3] not in ("uni", "use", "usb", "uti") else "a"


class Writer:
    """writes about one product"""

    def __init__(self, rng, name, cat, plural, tags, kinds):
        self.r, self.cat, self.tags, self.kinds = rng, cat, tags, kinds
        bare = plural or name.lower().startswith(("the ", "a ", "an ")) or rng.random() < 0.12
        n = name if bare else "the " + name
        agree = ("They", "they", "are", "have", "were", "", "", "them", "their") if plural else ("It", "it", "is", "has", "was", "s", "es", "it", "its")
        keys = ("It", "it", "is", "has", "was", "s", "es", "them", "its")
        self.f = dict(zip(keys, agree), N=n, Nc=n[0].upper() + n[1:] if not bare else n, n=name)
        self.plural = plural

    def say(self, frame, group=()):
        tags = [self.tags[i] for i in group]
        f = dict(self.f)
        if tags:
            f["T"] = listed(tags, "and")
            f["T0"] = f["T"][0].upper() + f["T"][1:]
            f["T2"] = listed(tags, "and")
            f["Words"] = ("One word", "Two words", "Three words", "Four words", "Five words", "Six words", "Seven words", "Eight words")[len(tags) - 1]
            f["From"] = tags[0] + " to " + tags[-1] if len(tags) == 2 else ""
            if len(tags) == 1:
                for a in (" a ", " A "):
                    frame = frame.replace(a + "{T}", " " + article(tags[0]) + " {T}")
                frame = frame.replace("A {T}", article(tags[0]).capitalize() + " {T}")
        if self.plural:  # "it" after a verb is "them"
            for before in ("have", "to", "love", "on", "how {T}", "want", "Put", "Use", "Pack", "Wear", "for", "found", "Share", "keep", "try", "Try", "without", "describe", "makes", "give", "at"):
                frame = frame.replace(before + " {it}", before + " {them}")
            frame = frame.replace("how {T} {them}", "how {T} {it}").replace("want {it} {is}", "want {it} {is}")
        return frame.format(**f)

    def kind(self, group):
        if len(group) == 1:
            return self.kinds[group[0]]
        k = {self.kinds[i] for i in group}
        if len(k) == 1:
            k = k.pop() + "s"
            if k in L.BODY:
                return k
        return "list"

    def body(self, group):
        r, k = self.r, self.kind(group)
        if len(group) == 2 and k == "list" and r.random() < 0.65:
            a, b = group
            ka, kb = self.kinds[a], self.kinds[b]
            return self.say(r.choice(L.HALF[ka]), (a,)) + ", " + self.say(r.choice(L.MAIN[kb]), (b,)) + "."
        while True:
            frame = r.choice(L.BODY[k])
            if k == "mades" and frame.startswith("{T}"):
                continue  # a tag's case is the caller's
            if "{T0}" in frame or "{From}" in frame and len(group) != 2:
                continue
            if "{From}" in frame and k != "list":
                continue
            return self.say(frame, group)

    def groups(self):
        """cuts the tags, in their order, into those of the first sentence and those of others"""
        r, n = self.r, len(self.tags)
        if n == 0:
            return [], []
        first = r.choice((0, 1, 1, 1)) if n < 4 else r.choice((0, 1, 1, 2, 3))
        if n <= 3 and r.random() < 0.12:
            first = n
        head, rest = list(range(first)), list(range(first, n))
        groups = []
        while rest:
            left = 2 - len(groups)
            size = len(rest) if left == 1 else r.choice((1, 1, 2, 2, 3, len(rest)))
            size = min(size, len(rest))
            groups.append(rest[:size])
            rest = rest[size:]
        return head, groups

    def text(self):
        r = self.r
        head, groups = self.groups()
        if head:
            kind = self.kind(head) if len(head) == 1 else "list"
            sentences = [self.say(r.choice(L.OPEN_TAG[kind]), head)]
        else:
            sentences = [self.say(r.choice(L.OPEN))]
        sentences += [self.body(g) for g in groups]
        if len(sentences) < 2 or len(sentences) == 2 and r.random() < 0.75:
            x = r.random()
            if x < 0.22:
                sentences.append(self.say(r.choice(L.CLOSE_NAME)))
            elif x < 0.72 and self.cat != "any":
                sentences.append(self.say(r.choice(L.CLOSE[self.cat])))
            else:
                sentences.append(self.say(r.choice(L.CLOSE["any"])))
        return " ".join(sentences)


def listed(tags, word):
    return tags[0] if len(tags) == 1 else ", ".join(tags[:-1]) + " " + word + " " + tags[-1]


def example(rng):
    """-> name, tags, text"""
    name, cat, plural, tags, kinds = Maker(rng).product()
    return name, tags, Writer(rng, name, cat, plural, tags, kinds).text()


def plain(rng):
    """an exercise in copying: names and tags of made-up words alone"""
    m = Maker(rng)
    return m.name(1.0)[0], [m.tag(1.0)[0] for _ in range(rng.randint(1, 5))]


def vocabulary():
    """the words of the sentences, without those of names and tags"""
    frames = list(L.OPEN) + L.CLOSE_NAME
    for table in (L.OPEN_TAG, L.BODY, L.HALF, L.MAIN, L.CLOSE):
        for v in table.values():
            frames += v
    out = set("it they is are has have was were them its their the a an and one two three four five six seven eight words".split())
    for f in frames:
        for w in f.split():
            bare = w.strip(".,:?!").lower()
            if "{s}" in bare or "{es}" in bare:
                stem = bare.replace("{s}", "").replace("{es}", "")
                out |= {stem, bare.replace("{s}", "s").replace("{es}", "es")}
            elif "{" not in bare:
                out.add(bare)
    return sorted(w for w in out if w)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=10)
    p.add_argument("--heldout", metavar="FILE")
    p.add_argument("--words", metavar="FILE", help="writes the words that the sentences are made of")
    p.add_argument("--nouns", metavar="FILE", help="writes the tags that are no qualities")
    a = p.parse_args()
    if a.nouns:
        quality = {t.lower() for t in L.TAGS["adj"]}
        nouns = {t.lower() for k in L.TAGS if k != "adj" for t in L.TAGS[k]} - quality
        with open(a.nouns, "w", encoding="utf-8") as f:
            f.write("\n".join(sorted(nouns)) + "\n")
        return
    if a.words:
        with open(a.words, "w", encoding="utf-8") as f:
            f.write("\n".join(vocabulary()) + "\n")
        return
    if a.heldout:
        m = Maker(random.Random(20260 + a.seed), unseen=True)
        out = []
        while len(out) < 500:
            name, _, _, tags, _ = m.product()
            if 1 <= len(tags) <= 6:
                out.append({"name": name, "tags": tags})
        with open(a.heldout, "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(json.dumps(x, ensure_ascii=False) for x in out) + "\n]\n")
        return
    rng = random.Random(a.seed)
    for _ in range(a.count):
        name, tags, text = example(rng)
        print(f"{name} [{', '.join(tags)}]\n    {text}")


if __name__ == "__main__":
    main()
