// Command stream_client is what kubectl's streams are made of, driven by lines: for each URL on stdin it opens one
// session with client-go and prints one line about it, `ok` or what went wrong.
//
//	stream_client exec spdy|websocket BYTES SESSIONS   sends BYTES to a command that sends them back, SESSIONS at once
//	stream_client forward spdy|websocket BYTES PORT    the same through a forwarded port
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
)

func main() {
	if len(os.Args) != 5 {
		fail("usage: stream_client exec|forward spdy|websocket BYTES SESSIONS|PORT")
	}
	kind, transport := os.Args[1], os.Args[2]
	size, number := parse(os.Args[3]), parse(os.Args[4])
	atOnce := 1
	if kind == "exec" {
		atOnce = number
	}
	urls := make(chan string)
	results := make(chan string)
	var sessions sync.WaitGroup
	for range atOnce {
		sessions.Go(func() {
			for text := range urls {
				results <- report(run(kind, transport, text, size, number))
			}
		})
	}
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			urls <- lines.Text()
		}
		close(urls)
		sessions.Wait()
		close(results)
	}()
	for result := range results {
		fmt.Println(result)
	}
}

func run(kind, transport, text string, size, number int) error {
	target, err := url.Parse(text)
	if err != nil {
		return err
	}
	sent := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(sent)
	if kind == "exec" {
		return exec(target, transport, sent)
	}
	return forward(target, transport, sent, number)
}

func exec(target *url.URL, transport string, sent []byte) error {
	var executor remotecommand.Executor
	var err error
	if transport == "spdy" {
		executor, err = remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, target)
	} else {
		executor, err = remotecommand.NewWebSocketExecutor(&rest.Config{}, http.MethodGet, target.String())
	}
	if err != nil {
		return err
	}
	came := sha256.New()
	// A buffered reader hides every other method of the bytes, so that they go out in pieces.
	err = executor.StreamWithContext(context.Background(), remotecommand.StreamOptions{
		Stdin:  bufio.NewReader(bytes.NewReader(sent)),
		Stdout: came,
		Stderr: io.Discard,
	})
	// The command ends so.
	if err == nil || err.Error() != "command terminated with exit code 7" {
		return fmt.Errorf("it ended with %v", err)
	}
	return compare(came.Sum(nil), sent)
}

func forward(target *url.URL, transport string, sent []byte, port int) error {
	dialer, err := portforward.NewSPDYOverWebsocketDialer(target, &rest.Config{})
	if transport == "spdy" {
		roundTripper, upgrader, failure := spdy.RoundTripperFor(&rest.Config{})
		dialer, err = spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, http.MethodPost, target), failure
	}
	if err != nil {
		return err
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	ports := []string{fmt.Sprintf("0:%d", port)}
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		return fmt.Errorf("it ended before it was ready: %v", err)
	}
	local, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	// One connection after the other, and then several at once.
	address := fmt.Sprintf("127.0.0.1:%d", local[0].Local)
	for range 3 {
		if err := echo(address, sent); err != nil {
			return err
		}
	}
	failures := make(chan error)
	for range 8 {
		go func() { failures <- echo(address, sent) }()
	}
	var failure error
	for range 8 {
		if err := <-failures; err != nil {
			failure = err
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		return err
	}
	return failure
}

func echo(address string, sent []byte) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		_, _ = connection.Write(sent)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	came := sha256.New()
	if _, err := io.Copy(came, connection); err != nil {
		return err
	}
	return compare(came.Sum(nil), sent)
}

func compare(came []byte, sent []byte) error {
	if want := sha256.Sum256(sent); !bytes.Equal(came, want[:]) {
		return fmt.Errorf("other bytes came back: %x instead of %x", came, want)
	}
	return nil
}

func report(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func parse(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		fail(err.Error())
	}
	return number
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}
