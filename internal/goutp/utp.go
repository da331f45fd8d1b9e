// Package utp stands in for github.com/anacrolix/go-utp, which the BitTorrent client names but which cannot be had: it has
// the same API and answers that there is no uTP. The client is told so as well (DisableUTP), so nothing here is called.
package utp

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// Default names the implementation.
const Default = "none"

var errNone = errors.New("no uTP in this program")

// Socket is what the client expects of a uTP socket.
type Socket interface {
	net.PacketConn
	Accept() (net.Conn, error)
	Addr() net.Addr
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	SetFirewallCallback(FirewallCallback)
}

// FirewallCallback says whether packets from an address are dropped.
type FirewallCallback = func(net.Addr) bool

// Option configures a Socket.
type Option func()

// WithLogger changes nothing.
func WithLogger(*slog.Logger) Option { return func() {} }

// NewSocket fails: there is no uTP.
func NewSocket(string, string, ...Option) (Socket, error) { return nil, errNone }

// NewSocketFromPacketConn fails: there is no uTP.
func NewSocketFromPacketConn(net.PacketConn, ...Option) (Socket, error) { return nil, errNone }
