package peers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// A worker that seeds may open no files: it asks for them over a second socket, of messages, and gets descriptors. A request
// is its number, the ID and the file's number; an answer is the request's number, then nothing but a descriptor, or the reason why
// there is none.
const (
	requestSize = 4 + 20 + 4
	manyOpening = 32 // files at once
)

// desk hands descriptors out.
type desk struct{ conn *net.UnixConn }

// newDesk takes the socket over.
func newDesk(socket *os.File) (*desk, error) {
	c, err := unixConn(socket)
	return &desk{c}, err
}

func unixConn(socket *os.File) (*net.UnixConn, error) {
	defer socket.Close()
	c, err := net.FileConn(socket)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("no unix socket")
	}
	return u, nil
}

func (d *desk) close() { d.conn.Close() }

// serve answers until the socket ends.
func (d *desk) serve(open func(id [20]byte, file int) (*os.File, error)) {
	turns := make(chan struct{}, manyOpening)
	buf := make([]byte, requestSize+1)
	for {
		n, err := d.conn.Read(buf)
		if err != nil || n != requestSize {
			d.close()
			return
		}
		number, id, file := [4]byte(buf), [20]byte(buf[4:]), binary.LittleEndian.Uint32(buf[24:])
		turns <- struct{}{}
		go func() {
			defer func() { <-turns }()
			f, err := open(id, int(file))
			if err != nil {
				d.conn.Write(append(number[:], short(err.Error())...))
				return
			}
			defer f.Close()
			d.conn.WriteMsgUnix(number[:], syscall.UnixRights(int(f.Fd())), nil)
		}()
	}
}

// Files asks for descriptors: the worker's side of the desk. Ask and Next may be called at the same time.
type Files struct{ conn *net.UnixConn }

// NewFiles takes the socket over.
func NewFiles(socket *os.File) (*Files, error) {
	c, err := unixConn(socket)
	return &Files{c}, err
}

// Ask asks for a file of a torrent. The answer, which comes from Next, bears the number.
func (f *Files) Ask(number uint32, id [20]byte, file int) error {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, requestSize), number)
	b = binary.LittleEndian.AppendUint32(append(b, id[:]...), uint32(file))
	_, err := f.conn.Write(b)
	return err
}

// Next waits for an answer: a file, or why there is none. err says that there will be no more.
func (f *Files) Next() (number uint32, file *os.File, refused, err error) {
	buf, rights := make([]byte, 4+maxText), make([]byte, syscall.CmsgSpace(4))
	n, nr, _, _, err := f.conn.ReadMsgUnix(buf, rights)
	if err != nil {
		return 0, nil, nil, err
	}
	if n < 4 {
		return 0, nil, nil, errFrame
	}
	number = binary.LittleEndian.Uint32(buf)
	if nr == 0 {
		return number, nil, fmt.Errorf("%s", buf[4:n]), nil
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:nr])
	if err != nil || len(messages) != 1 {
		return 0, nil, nil, errFrame
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, nil, nil, errFrame
	}
	return number, os.NewFile(uintptr(fds[0]), "content"), nil, nil
}
