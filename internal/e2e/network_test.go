package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// network is a few machines of our own on one wire: network namespaces on a bridge in another one, the hub. Nothing of it
// can be reached from this machine's network, nor that from there.
type network struct {
	t        *testing.T
	name     string
	machines int
}

// hubAddress is the hub's; machine n, from 0, has 10.77.0.(n+2).
const hubAddress = "10.77.0.1"

// newNetwork skips the test for who is not root.
func newNetwork(t *testing.T, machines int) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	need(t, "ip")
	n := &network{t: t, name: fmt.Sprintf("tx%d", os.Getpid()), machines: machines}
	if out, err := exec.Command("ip", "netns", "add", n.hub()).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("network namespaces cannot be made here: %v\n%s", err, out))
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", n.hub()).Run() })
	n.ip("-n", n.hub(), "link", "set", "lo", "up")
	n.ip("-n", n.hub(), "link", "add", "wire", "type", "bridge")
	n.ip("-n", n.hub(), "addr", "add", hubAddress+"/24", "dev", "wire")
	n.ip("-n", n.hub(), "link", "set", "wire", "up")
	for i := range machines {
		m, port := n.machine(i), fmt.Sprintf("port%d", i)
		n.ip("netns", "add", m)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", m).Run() })
		n.ip("-n", n.hub(), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", m)
		n.ip("-n", n.hub(), "link", "set", port, "master", "wire", "up")
		n.ip("-n", m, "link", "set", "lo", "up")
		n.ip("-n", m, "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+2), "dev", "eth0")
		n.ip("-n", m, "link", "set", "eth0", "up")
		n.ip("-n", m, "route", "add", "default", "via", hubAddress)
	}
	return n
}

func (n *network) hub() string          { return n.name + "-hub" }
func (n *network) machine(i int) string { return fmt.Sprintf("%s-%d", n.name, i) }

func (n *network) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// blockUDP has all machines' kernels refuse to send UDP, or allows it again.
func (n *network) blockUDP(block bool) {
	what := "del"
	if block {
		what = "add"
	}
	for i := range n.machines {
		n.ip("-n", n.machine(i), "rule", what, "ipproto", "udp", "prohibit")
	}
}

// at has a command run in a namespace.
func at(where string, cmd *exec.Cmd) *exec.Cmd {
	ip, err := exec.LookPath("ip")
	if err != nil {
		cmd.Err = err
		return cmd
	}
	cmd.Args = append([]string{ip, "netns", "exec", where, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = ip
	return cmd
}
