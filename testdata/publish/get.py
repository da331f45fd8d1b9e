"""usage: get.py TORRENT DIR: lets libtorrent download from the web seeds alone"""
import sys
import time

import libtorrent as lt

torrent, directory = sys.argv[1:]
session = lt.session({
    "listen_interfaces": "", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
})
handle = session.add_torrent({"ti": lt.torrent_info(torrent), "save_path": directory})
while not (status := handle.status()).is_seeding:
    if status.errc.value():
        sys.exit(status.errc.message())
    time.sleep(0.05)
session.pause()
