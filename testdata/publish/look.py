"""usage: look.py ROOT DATA <TORRENTS

Reads torrents, one path below ROOT a line, and hashes the file that each speaks of, which lies at the same place below
DATA. Prints what libtorrent makes of each as one JSON object a line. Talks to nobody.
"""
import json
import os
import sys

import libtorrent as lt

root, data = sys.argv[1:]
session = lt.session({
    "listen_interfaces": "", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.error_notification,
    "alert_queue_size": 1000000, "active_checking": -1, "auto_manage_interval": 1,
})
torrents, handles = [], {}
for line in sys.stdin:
    path = line.rstrip("\n")
    with open(os.path.join(root, path), "rb") as f:
        raw = lt.bdecode(f.read())
    info = lt.torrent_info(os.path.join(root, path))
    hashes, files = info.info_hashes(), info.files()
    torrents.append({
        "torrent": path, "name": info.name(), "piece_length": info.piece_length(), "pieces": info.num_pieces(),
        "size": sum(files.file_size(i) for i in range(files.num_files()) if not files.file_flags(i) & lt.file_flags_t.flag_pad_file),
        "v1": str(hashes.v1) if hashes.has_v1() else "", "v2": str(hashes.v2) if hashes.has_v2() else "",
        "seeds": [s["url"] for s in info.web_seeds()], "keys": sorted(k.decode() for k in raw),
    })
    if info.info_hash() not in handles:
        info.set_web_seeds([])
        handles[info.info_hash()] = session.add_torrent({"ti": info, "save_path": os.path.join(data, os.path.dirname(path))})
    torrents[-1]["id"] = info.info_hash()
checked = set()
while len(checked) < len(handles):
    session.wait_for_alert(1000)
    for alert in session.pop_alerts():
        if isinstance(alert, (lt.torrent_checked_alert, lt.torrent_error_alert)):
            checked.add(alert.handle)
for torrent in torrents:
    status = handles[torrent.pop("id")].status()
    torrent["complete"] = status.progress == 1 and not status.errc.value()
    print(json.dumps(torrent))
