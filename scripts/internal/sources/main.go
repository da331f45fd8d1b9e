// Command sources prints what each source gave, from a report of torrent-xfer. scripts/demo runs it:
//
//	sources REPORT [PREFIX=NAME ...]
//
// A source whose URL begins with PREFIX is called NAME too. A named source that gave nothing is listed as well.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"torrent-xfer/fetcher"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "Usage: sources REPORT [PREFIX=NAME ...]")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "sources:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, report string, names []string) error {
	data, err := os.ReadFile(report)
	if err != nil {
		return err
	}
	var r fetcher.Result
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SOURCE\tBYTES\tSHARE\tREQUESTS\tFIRST BYTE\tSET ASIDE")
	used := map[string]bool{}
	for _, s := range r.Sources {
		name := s.Name
		for _, n := range names {
			if prefix, label, ok := strings.Cut(n, "="); ok && strings.HasPrefix(s.Name, prefix) {
				name, used[n] = prefix+" "+label, true
			}
		}
		first := "-"
		if s.FirstByte > 0 {
			first = s.FirstByte.Round(100 * time.Microsecond).String()
		}
		fmt.Fprintf(tw, "%s\t%d\t%.1f %%\t%d\t%s\t%s\n", name, s.Bytes, 100*float64(s.Bytes)/float64(max(r.Size, 1)), s.Requests, first,
			s.Blame)
	}
	for _, n := range names {
		if prefix, label, _ := strings.Cut(n, "="); !used[n] {
			fmt.Fprintf(tw, "%s %s\t0\t0.0 %%\t0\t-\t(not used)\n", prefix, label)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	verified := "nothing to verify it by"
	if r.Verified != "" {
		verified = "verified by the " + r.Verified
	}
	if r.InfoHash != "" {
		verified += " " + r.InfoHash
	}
	_, err = fmt.Fprintf(w, "%d bytes in %.2f s, %s; %d bytes fetched twice.\n", r.Size, r.Elapsed.Seconds(), verified, r.Duplicate)
	return err
}
