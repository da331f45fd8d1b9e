package metainfo

import (
	"bufio"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Limits of a Description. What is beyond is counted.
const (
	maxFilesShown  = 1 << 16
	maxPathsShown  = 4 << 20 // bytes of the files' paths
	maxLayersShown = 1 << 16
	maxTextShown   = 4096 // bytes of one text
	maxOtherKeys   = 1000
	maxOtherValue  = 256 // bytes
	maxWarnings    = 100
)

// Description is everything that metainfo says, for people and programs to look at; nothing of it was verified. What
// is missing is zero. Texts are UTF-8: bytes that are no text stand in them as \x and two digits, and very long ones are
// cut off. The JSON of it, as WriteJSON writes it, is that of the fields, then "files", "piece_hashes" and "piece_layers".
type Description struct {
	Name     string `json:"name"`
	NameUTF8 string `json:"name_utf8,omitempty"` // of old programs, beside a name in another encoding
	// Version is v1, v2 or hybrid.
	Version string `json:"version"`
	// InfoHash is what Manifest has: that of v1 if there is one.
	InfoHash   string `json:"info_hash"`
	InfoHashV1 string `json:"info_hash_v1,omitempty"` // 40 hex digits
	InfoHashV2 string `json:"info_hash_v2,omitempty"` // 64 hex digits
	Magnet     string `json:"magnet"`
	Size       int64  `json:"size"`       // bytes of all files, padding left out
	FileCount  int    `json:"file_count"` // padding left out
	// PieceLength is in bytes.
	PieceLength int64      `json:"piece_length"`
	PieceCount  int64      `json:"piece_count"` // as the hashes of v1 say, else as the sizes of the files
	Private     bool       `json:"private"`
	Source      string     `json:"source,omitempty"` // of the info dictionary
	Announce    string     `json:"announce,omitempty"`
	Tiers       [][]string `json:"announce_list,omitempty"`
	URLList     []string   `json:"url_list,omitempty"`  // BEP 19
	HTTPSeeds   []string   `json:"httpseeds,omitempty"` // BEP 17
	Sources     []string   `json:"sources,omitempty"`   // MirrorCache's
	Nodes       []string   `json:"nodes,omitempty"`     // host:port (BEP 5)
	Comment     string     `json:"comment,omitempty"`
	CreatedBy   string     `json:"created_by,omitempty"`
	// CreationDate is RFC 3339, in UTC.
	CreationDate string `json:"creation_date,omitempty"`
	Encoding     string `json:"encoding,omitempty"`
	Publisher    string `json:"publisher,omitempty"`
	PublisherURL string `json:"publisher_url,omitempty"`
	// OtherKeys are all that have no field here, at most 1000.
	OtherKeys []OtherKey `json:"other_keys,omitempty"`
	// Warnings say why Parse refuses it, if it does, and what else may be wrong.
	Warnings []string `json:"warnings"`

	// Files are those of v1, or of v2 if it is not a hybrid; 65,536 at most, and 4 MiB of paths.
	Files []DescribedFile `json:"-"`
	// PieceHashes are SHA-1, of 20 bytes each (v1). They are a part of the data described.
	PieceHashes []byte `json:"-"`
	// PieceLayers are SHA-256 (v2), at most 65,536.
	PieceLayers []PieceLayer `json:"-"`
}

// OtherKey is a key that Description has no field for.
type OtherKey struct {
	Path  string `json:"path"`  // as in errors
	Value string `json:"value"` // the beginning of what metainfo.WriteJSON would write, in one line
}

// DescribedFile is a file of a torrent.
type DescribedFile struct {
	Path       string `json:"path"`   // elements joined by slashes, without the torrent's name if it has several files
	Length     int64  `json:"length"` // bytes
	Attr       string `json:"attr,omitempty"`
	Pad        bool   `json:"pad,omitempty"`         // BEP 47
	PiecesRoot string `json:"pieces_root,omitempty"` // 64 hex digits (BEP 52)
}

// PieceLayer has the hashes of the pieces of one file (BEP 52). Both are parts of the data described.
type PieceLayer struct {
	Root   []byte
	Hashes []byte // 32 bytes each
}

// Trackers returns the tiers of announce URLs: announce-list, or announce if there is none (BEP 12).
func (d *Description) Trackers() [][]string {
	if d.Tiers == nil && d.Announce != "" {
		return [][]string{{d.Announce}}
	}
	return d.Tiers
}

// WriteJSON writes an object, indented, with a newline behind it. Its memory does not grow with the files and hashes.
func (d *Description) WriteJSON(w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	head := json.NewEncoder(&headWriter{w: out})
	head.SetEscapeHTML(false)
	head.SetIndent("", "  ")
	if err := head.Encode(d); err != nil {
		return err
	}
	out.WriteString(",\n  \"files\": [")
	for i, f := range d.Files {
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		out.WriteString(comma(i) + "\n    ")
		out.Write(text)
	}
	out.WriteString("\n  ],\n  \"piece_hashes\": ")
	writeHashes(out, d.PieceHashes, sha1.Size, "\n  ")
	out.WriteString(",\n  \"piece_layers\": {")
	for i, l := range d.PieceLayers {
		fmt.Fprintf(out, "%s\n    \"%x\": ", comma(i), l.Root)
		writeHashes(out, l.Hashes, sha256.Size, "\n    ")
	}
	out.WriteString("\n  }\n}\n")
	return out.Flush()
}

// headWriter leaves out the end of an object, to which more is to be added.
type headWriter struct{ w *bufio.Writer }

func (h *headWriter) Write(b []byte) (int, error) {
	_, err := h.w.Write(b[:len(b)-len("\n}\n")])
	return len(b), err
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

// writeHashes writes a list of what there is; the last hash may be cut short.
func writeHashes(w *bufio.Writer, hashes []byte, size int, newLine string) {
	w.WriteByte('[')
	for i := 0; i < len(hashes); i += size {
		w.WriteString(comma(i))
		w.WriteString(newLine)
		w.WriteString("  \"")
		w.Write(hex.AppendEncode(w.AvailableBuffer(), hashes[i:min(i+size, len(hashes))]))
		w.WriteByte('"')
	}
	if len(hashes) > 0 {
		w.WriteString(newLine)
	}
	w.WriteByte(']')
}
