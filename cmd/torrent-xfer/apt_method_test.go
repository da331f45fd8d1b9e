package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// fakeApt talks to the method as apt does: "apt NAME FILE" sends the messages in FILE, with $VARIABLES replaced, prints
// what the method says, but for 102 that tell of no peers, and hangs up when each 600 has been answered.
func fakeApt() {
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	messages := os.ExpandEnv(string(text))
	cmd := exec.Command("torrent-xfer", "apt-method", os.Args[1])
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || cmd.Start() != nil {
		panic("torrent-xfer does not start")
	}
	timer := time.AfterFunc(5*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	go io.WriteString(in, messages)
	open := strings.Count("\n"+messages, "\n600 ")
	for r := bufio.NewReader(out); open > 0; {
		message := ""
		for !strings.HasSuffix(message, "\n\n") {
			line, err := r.ReadString('\n')
			if message += line; err != nil {
				fmt.Print(message)
				cmd.Wait()
				fmt.Println("the method has ended with status", cmd.ProcessState.ExitCode())
				return
			}
		}
		switch message[:3] {
		case "102":
			if !strings.Contains(message, " peer") {
				continue
			}
		case "103", "201", "400":
			open--
		}
		fmt.Print(message)
	}
	in.Close()
	cmd.Wait()
	fmt.Println("the method has ended with status", cmd.ProcessState.ExitCode())
}
