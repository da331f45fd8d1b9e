package main

import (
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

// userAgent is pacman's wish, or our own name.
func userAgent(env Env) string {
	if a := env.get("HTTP_USER_AGENT"); a != "" && printable(a) == a {
		return a
	}
	return "torrent-xfer/" + version
}

// newTransport uses the proxies of the environment (http_proxy, https_proxy, all_proxy, no_proxy).
func newTransport(env Env) *http.Transport {
	first := func(names ...string) string {
		for _, n := range names {
			if v := env.get(n); v != "" {
				return v
			}
		}
		return ""
	}
	config := httpproxy.Config{
		HTTPProxy:  first("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
		HTTPSProxy: first("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
		NoProxy:    first("no_proxy", "NO_PROXY"),
	}
	if config.HTTPProxy == "" && config.HTTPSProxy == "" {
		return &http.Transport{}
	}
	proxy := config.ProxyFunc()
	return &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }}
}
