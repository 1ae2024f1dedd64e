#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tokenizer-edges.txt: what Hugging Face's `tokenizers` makes of the edges of its files, in tiny tokenizers.

usage: make_tokenizer_edges.py

Lines, texts in hexadecimal ("-": empty):
T file           the tokenizer.json that the lines behind it are of
E text tokens …  its tokens
R pattern        the regular expression that the lines behind it are of
C text ends …    where Split, isolated, ends its pieces, in bytes
"""
import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
PATTERNS = [
    r"\w+|[^\w\s]+", r"\W+", r"[\w]+", r"[^\w]", r"\b", r"\B", r"\bthe\b", r"\s+", r"[\S]+", r"[^\S]+", r"\s+$", r"^\w", r"$",
    r"^", r"\n^", r"\A\w", r"\w\z", r"\h+", r"[\h-]+", r"\v", r"(?=(\d{3})+(?!\d))", r"(?<=\d)(?=\D)", r"\d*", r"\d{2}",
    r"\d{,2}x", r"x{,}", r"\d{1,2}?", r"\u00e9|\u4e00", r"[]x]+", r"[^]x]+", r"(?i:THE)", r"(?ix: T h e )", r"\x{65}{2}", r"\p{Lu}{2}",
    r"\G.", r"\Kx", r"",
]
PATTERN_TEXTS = [
    "the \u00b2 x\u00b9y the_other \u24b6b cafe\u0301 \u0e01\u0e33 1\u2167", "the\n the\r\nend\n", "\n\nx\n", "x", " ", "12345 1234567x 12x",
    "a\u180eb\u00a0c\u3000d\u0085e\u000bf", "beefDEAD-x]x[", "tree \u00e9\u4e00 THE tHe", "\u200d\u203f_\U0001f130x",
]


def edges():
    alphabet = {c: i for i, c in enumerate(sorted("abcdeghilnorstux\u2581_ \u00e9<>?\u4e00") + ["<unk>", "<m>", "<n>"])}
    unk = models.BPE(vocab=alphabet, merges=[], unk_token="<unk>", fuse_unk=True)

    # bytes that the vocabulary of a byte-level model hasn't
    for fuse in (True, False):
        tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[], unk_token="<unk>", fuse_unk=fuse))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        yield tokenizer, ["the end", "\u00fcber", "a\u4e00\u4e01b", "\u4e00", "x!?!!y"]
    # the unknown token as a character of its own is not joined with what is unknown
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[], unk_token="?", fuse_unk=True))
    yield tokenizer, ["a?!b", "!?a", "??!!??", "?"]
    # white space that one added token has taken leaves nothing of another
    tokenizer = Tokenizer(unk)
    tokenizer.add_special_tokens([AddedToken("<m>", rstrip=True), AddedToken(" ", lstrip=True)])
    yield tokenizer, ["<m> a", "a <m>", "a  b", " <m> <m> "]
    # Metaspace before the first piece: the one that begins with what the text's first character has become
    for normalizer, steps in [
        (None, [pre_tokenizers.WhitespaceSplit()]), (None, [pre_tokenizers.Punctuation("removed")]),
        (normalizers.BertNormalizer(), [pre_tokenizers.WhitespaceSplit()]), (normalizers.Prepend("x"), [pre_tokenizers.Split("a", "isolated")]),
        (normalizers.StripAccents(), []), (normalizers.Replace("a", ""), []), (normalizers.NFD(), [pre_tokenizers.Split("e", "isolated")]),
    ]:
        tokenizer = Tokenizer(unk)
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps + [pre_tokenizers.Metaspace(prepend_scheme="first", split=False)])
        tokenizer.add_tokens([AddedToken("<n>", normalized=True)])
        yield tokenizer, ["a b", " a b", "\u4e00a", "\u0301ab", "ab", "\u00e9a", "?a", "<n>a", "\x01a", "a"]


def main():
    lines = []
    for tokenizer, texts in edges():
        state = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
        lines.append("T " + state.encode().hex())
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            lines.append(" ".join(["E", text.encode().hex() or "-"] + [str(i) for i in ids]))
    for pattern in PATTERNS:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        lines.append("R " + (pattern.encode().hex() or "-"))
        for text in PATTERN_TEXTS:
            ends = [len(text[: end].encode()) for _, (_, end) in split.pre_tokenize_str(text)]
            lines.append(" ".join(["C", text.encode().hex()] + [str(end) for end in ends]))
    with open(os.path.join(HERE, "tokenizer-edges.txt"), "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
