"""usage: torrent.py v1|hybrid|v2 FILE OUT [WEBSEED...]"""
import os
import sys

import libtorrent as lt

kind, path, out, *seeds = sys.argv[1:]
flags = {
    "v1": lt.create_torrent.v1_only,
    "hybrid": 0,
    "v2": lt.create_torrent.v2_only,
}[kind]
files = lt.file_storage()
lt.add_files(files, path)
torrent = lt.create_torrent(files, 0, flags)
for seed in seeds:
    torrent.add_url_seed(seed)
lt.set_piece_hashes(torrent, os.path.dirname(os.path.abspath(path)))
with open(out, "wb") as f:
    f.write(lt.bencode(torrent.generate()))
