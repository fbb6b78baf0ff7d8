// A client of golang.org/x/crypto/ssh and github.com/pkg/sftp, for tests/scenario/test_ssh_clients.py.
//
//	client HOST PORT USER KEY HOSTKEY run COMMAND      its output, and its exit code
//	                                  pty ROWS COLS    what `stty size` says
//	                                  put FROM TO
//	                                  get FROM TO
//	                                  tree FROM TO     a directory and all in it
//	                                  forward PORT     "ping" to a port of the sandbox, and its answer
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func dial(arg []string) *ssh.Client {
	pem, err := os.ReadFile(arg[3])
	check(err)
	signer, err := ssh.ParsePrivateKey(pem)
	check(err)
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(arg[4]))
	check(err)
	client, err := ssh.Dial("tcp", net.JoinHostPort(arg[0], arg[1]), &ssh.ClientConfig{
		User:            arg[2],
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(hostKey),
	})
	check(err)
	return client
}

func run(client *ssh.Client, command string) {
	session, err := client.NewSession()
	check(err)
	session.Stdout, session.Stderr = os.Stdout, os.Stderr
	var exit *ssh.ExitError
	if err := session.Run(command); errors.As(err, &exit) {
		os.Exit(exit.ExitStatus())
	} else {
		check(err)
	}
}

func pty(client *ssh.Client, rows, columns string) {
	session, err := client.NewSession()
	check(err)
	h, err := strconv.Atoi(rows)
	check(err)
	w, err := strconv.Atoi(columns)
	check(err)
	check(session.RequestPty("xterm", h, w, ssh.TerminalModes{ssh.ECHO: 0}))
	out, err := session.Output("stty size")
	check(err)
	os.Stdout.Write(out)
}

func copyFile(to io.WriteCloser, from io.Reader) {
	_, err := io.Copy(to, from)
	check(err)
	check(to.Close())
}

func put(files *sftp.Client, from, to string) {
	in, err := os.Open(from)
	check(err)
	defer in.Close()
	out, err := files.Create(to)
	check(err)
	copyFile(out, in)
}

func get(files *sftp.Client, from, to string) {
	in, err := files.Open(from)
	check(err)
	defer in.Close()
	out, err := os.Create(to)
	check(err)
	copyFile(out, in)
}

func tree(files *sftp.Client, from, to string) {
	check(filepath.WalkDir(from, func(name string, entry os.DirEntry, err error) error {
		check(err)
		relative, err := filepath.Rel(from, name)
		check(err)
		if entry.IsDir() {
			return files.MkdirAll(path.Join(to, relative))
		}
		put(files, name, path.Join(to, relative))
		return nil
	}))
}

func forward(client *ssh.Client, port string) {
	stream, err := client.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	check(err)
	_, err = io.WriteString(stream, "ping\n")
	check(err)
	check(stream.(interface{ CloseWrite() error }).CloseWrite())
	answer, err := io.ReadAll(stream)
	check(err)
	os.Stdout.Write(answer)
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 8 {
		log.Fatal("HOST PORT USER KEY HOSTKEY VERB ARGUMENT...")
	}
	client := dial(os.Args[1:])
	defer client.Close()
	verb, arg := os.Args[6], os.Args[7:]
	switch verb {
	case "run":
		run(client, arg[0])
		return
	case "pty":
		pty(client, arg[0], arg[1])
		return
	case "forward":
		forward(client, arg[0])
		return
	}
	files, err := sftp.NewClient(client)
	check(err)
	defer files.Close()
	switch verb {
	case "put":
		put(files, arg[0], arg[1])
	case "get":
		get(files, arg[0], arg[1])
	case "tree":
		tree(files, arg[0], arg[1])
	default:
		log.Fatal(fmt.Errorf("%q is no verb", verb))
	}
}
