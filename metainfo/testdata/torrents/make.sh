#!/usr/bin/env bash
# Makes the torrents in this directory, with mktorrent and with libtorrent's Python binding. The content they speak of
# comes from content() below and from its twin in manifest_test.go. Run it after changing either; its results are committed.
set -euo pipefail
cd "$(dirname "$0")"
out=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

/usr/bin/python3 - "$out" <<'PY'
import os, subprocess, sys
import libtorrent as lt

out = sys.argv[1]


def content(seed, size):
    """A linear congruential generator, one byte of each state."""
    state, data = seed, bytearray()
    for _ in range(size):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        data.append(state >> 16 & 0xFF)
    return bytes(data)


def put(path, seed, size):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(content(seed, size))


def save(name, meta):
    with open(os.path.join(out, name + ".torrent"), "wb") as f:
        f.write(lt.bencode(meta))


def make(name, path, piece, flags, change=lambda meta: None, finish=lambda t: None):
    files = lt.file_storage()
    lt.add_files(files, path)
    t = lt.create_torrent(files, piece, flags)
    finish(t)
    lt.set_piece_hashes(t, os.path.dirname(os.path.abspath(path)))
    meta = t.generate()
    meta.pop(b"creation date", None)
    change(meta)
    save(name, meta)


def mktorrent(name, path, *args):
    target = os.path.join(out, name + ".torrent")
    if os.path.exists(target):
        os.remove(target)
    subprocess.run(["mktorrent", "-d", "-o", target, *args, path], check=True, stdout=subprocess.DEVNULL)


V1, V2, HYBRID = lt.create_torrent.v1_only, lt.create_torrent.v2_only, 0
PIECE = 32 << 10

put("a b+c.pkg", 1, 100_001)  # four pieces, the last of them short
put("small.pkg", 2, 20_000)  # less than a piece, two blocks
put("tiny.pkg", 3, 10)  # less than a block
put("empty.pkg", 4, 0)
put("repo/one.pkg", 5, 70_000)
put("repo/sub/two.pkg", 6, 50_000)
put("repo/three.pkg", 7, 32_768)
put("twins/a/same.pkg", 8, 40_000)
put("twins/b/same.pkg", 9, 40_000)

mktorrent("mktorrent-v1", "a b+c.pkg", "-l", "15", "-a", "http://tracker.example/announce",
          "-a", "udp://tracker.example:6969/announce",
          "-w", "http://mirror.example/pool/a%20b+c.pkg", "-w", "http://mirror.example/dir/")
mktorrent("mktorrent-one-seed", "small.pkg", "-l", "15", "-a", "http://tracker.example/announce",
          "-w", "https://mirror.example/dir/")
mktorrent("mktorrent-multi", "repo", "-l", "15", "-a", "http://tracker.example/announce")
for kind, flags in (("v1", V1), ("v2", V2), ("hybrid", HYBRID)):
    make(kind, "a b+c.pkg", PIECE, flags)
    make(kind + "-small", "small.pkg", PIECE, flags)
    make(kind + "-tiny", "tiny.pkg", PIECE, flags)
    make(kind + "-multi", "repo", PIECE, flags, finish=lambda t: t.add_url_seed("http://mirror.example/tree"))
    make(kind + "-twins", "twins", PIECE, flags)
make("v1-pads", "repo", PIECE, V1 | lt.create_torrent.canonical_files)


def sources(meta):  # as MirrorCache writes it
    meta[b"sources"] = [b"http://one.example/pool/small.pkg", b"https://two.example/small.pkg"]


def httpseeds(meta):
    meta[b"httpseeds"] = [b"http://one.example/pool/small.pkg", b"http://[::1/bad", b"http://two.example/seed.php"]


def string(meta):
    meta[b"url-list"] = b"http://one.example/pool/"


make("sources", "small.pkg", PIECE, V1, sources)
make("httpseeds", "small.pkg", PIECE, V1, httpseeds)
make("url-list-string", "small.pkg", PIECE, V2, string)

# The info hashes of files of several sizes: version, seed, size, piece length, SHA-1 or -, SHA-256 or -.
with open(os.path.join(out, "info-hashes.txt"), "w") as f:
    for seed, (size, piece) in enumerate([(16384, 16384), (16385, 16384), (65536, 16384), (300_000, 16384), (1_000_003, 65536),
                                          (2_097_152, 131072), (3_000_000, 1048576), (3_000_000, 4194304)]):
        put("some.pkg", seed, size)
        for version, flags in (("v1", V1), ("v2", V2), ("hybrid", HYBRID)):
            files = lt.file_storage()
            lt.add_files(files, "some.pkg")
            t = lt.create_torrent(files, piece, flags)
            lt.set_piece_hashes(t, ".")
            h = lt.torrent_info(t.generate()).info_hashes()
            print(version, seed, size, piece, h.v1 if h.has_v1() else "-", h.v2 if h.has_v2() else "-", file=f)

# Neither program makes torrents of empty files alone.
empty = {b"name": b"empty.pkg", b"piece length": PIECE}
save("v1-empty", {b"info": {**empty, b"length": 0, b"pieces": b""}})
save("v2-empty", {b"info": {**empty, b"meta version": 2, b"file tree": {b"empty.pkg": {b"": {b"length": 0}}}},
                  b"piece layers": {}})
PY
