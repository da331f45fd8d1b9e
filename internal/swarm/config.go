package swarm

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/mse"
	pp "github.com/anacrolix/torrent/peer_protocol"
	"golang.org/x/time/rate"

	"torrent-xfer/internal/peers"
)

// clientConfig has the client do what we want of it and nothing else.
func clientConfig(o peers.Options, f *filter) (*torrent.ClientConfig, error) {
	cfg := torrent.NewDefaultClientConfig()
	cfg.ListenPort = o.Port
	if o.Interface != "" {
		var err error
		if f.homes, err = listenAt(cfg, o.Interface); err != nil {
			return nil, err
		}
	}
	cfg.NoDefaultPortForwarding = true
	cfg.DisableTrackers = true // see announcer and rounds
	cfg.DisableUTP, cfg.DisableWebtorrent, cfg.DisableWebseeds = true, true, true
	cfg.DisableTCP = true // connections come through the gate
	cfg.NoDHT = true      // ours has a socket of its own, see joinDHT
	cfg.DhtStartingNodes = func(network string) dht.StartingNodesGetter {
		return func() ([]dht.Addr, error) {
			if len(o.DHTNodes) > 0 {
				return dht.ResolveHostPorts(o.DHTNodes)
			}
			return dht.GlobalBootstrapAddrs(network)
		}
	}
	cfg.Seed = true // give as soon as there is something to give
	cfg.UploadRateLimiter = rate.NewLimiter(uploadRate(o.LimitUpload))
	cfg.MaxAllocPeerRequestDataPerConn = queuePerPeer
	cfg.Bep20 = peerIDPrefix
	cfg.HTTPUserAgent, cfg.ExtendedHandshakeClientVersion = o.UserAgent, o.UserAgent
	cfg.Slogger = slog.New(slog.DiscardHandler)
	cfg.HeaderObfuscationPolicy = torrent.HeaderObfuscationPolicy{} // it costs a millisecond per connection, and mirrors show what is fetched anyway
	switch o.Encryption {
	case "prefer":
		cfg.HeaderObfuscationPolicy.Preferred = true
	case "require":
		cfg.HeaderObfuscationPolicy = torrent.HeaderObfuscationPolicy{Preferred: true, RequirePreferred: true}
		cfg.CryptoProvides = mse.CryptoMethodRC4
		cfg.CryptoSelector = func(mse.CryptoMethod) mse.CryptoMethod { return mse.CryptoMethodRC4 }
	case "never":
		cfg.HeaderObfuscationPolicy = torrent.HeaderObfuscationPolicy{Preferred: false, RequirePreferred: true}
	}
	cfg.IPBlocklist = f
	cfg.Callbacks.PeerConnAdded = append(cfg.Callbacks.PeerConnAdded, keepPrivate)
	return cfg, nil
}

// keepPrivate has a peer of a private torrent (BEP 27) offered no exchange of peers, and not told of our node of the DHT.
func keepPrivate(c *torrent.PeerConn) {
	if info := c.Torrent().Info(); info != nil && info.Private != nil && *info.Private {
		c.LocalLtepProtocolMap = &torrent.LocalLtepProtocolMap{Index: []pp.ExtensionName{pp.ExtensionNameMetadata}, NumBuiltin: 1}
		c.PeerExtensionBytes.SetBit(pp.ExtensionBitDht, false)
	}
}

// uploadRate is what a limiter is made of; limit <= 0: none. No request that a peer may have queued is longer than what may be sent
// at once: the client panics on such, and they may be older than the limit.
func uploadRate(limit int64) (rate.Limit, int) {
	if limit <= 0 {
		return rate.Inf, queuePerPeer
	}
	return rate.Limit(limit), max(int(min(limit, 1<<20)), queuePerPeer)
}

// joinDHT opens the DHT's socket, at the port that peers connect to. The client itself would share a socket of uTP.
func joinDHT(client *torrent.Client, cfg *torrent.ClientConfig) (*dht.Server, error) {
	network := "udp"
	if cfg.DisableIPv6 {
		network = "udp4"
	}
	c, err := net.ListenPacket(network, net.JoinHostPort(cfg.ListenHost(network), strconv.Itoa(client.LocalPort())))
	if err != nil {
		return nil, err
	}
	server, err := client.NewAnacrolixDhtServer(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	client.AddDhtServer(torrent.AnacrolixDhtServerWrapper{Server: server})
	return server, nil
}

// tiersOf are the trackers of tiers but those of other kinds than HTTP and UDP, each where it stands first: the own host's tracker
// may be in the torrent too.
func tiersOf(tiers [][]string) (kept [][]string) {
	seen := map[string]bool{}
	for _, tier := range tiers {
		tier = slices.DeleteFunc(flat(tier), func(u string) bool {
			before := seen[u]
			seen[u] = true
			return before
		})
		if len(tier) > 0 {
			kept = append(kept, tier)
		}
	}
	return kept
}

// listenAt has the client listen at an address, or at those of an interface, and speak to peers of their kind only. It returns what it
// listens at: an address, or one of each kind.
func listenAt(cfg *torrent.ClientConfig, name string) ([]netip.Addr, error) {
	var ips []netip.Addr
	if ip, err := netip.ParseAddr(name); err == nil {
		ips = append(ips, ip)
	} else {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return nil, err
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				ips = append(ips, p.Addr())
			}
		}
	}
	hosts := map[string]netip.Addr{} // by the last character of the network
	for _, ip := range ips {
		hosts[kindOf(ip)] = ip
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("interface %s has no address", name)
	}
	cfg.DisableIPv4, cfg.DisableIPv6 = !hosts["4"].IsValid(), !hosts["6"].IsValid()
	cfg.ListenHost = func(network string) string { return hosts[network[len(network)-1:]].String() }
	return slices.SortedFunc(maps.Values(hosts), netip.Addr.Compare), nil
}

// kindOf is the last character of the networks of an address.
func kindOf(ip netip.Addr) string {
	if ip.Is4() {
		return "4"
	}
	return "6"
}

// interfaceOf is the interface with that name or address; nil: none.
func interfaceOf(name string) *net.Interface {
	all, _ := net.Interfaces()
	for _, i := range all {
		addrs, _ := i.Addrs()
		if i.Name == name || slices.ContainsFunc(addrs, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr().String() == name
		}) {
			return &i
		}
	}
	return nil
}
