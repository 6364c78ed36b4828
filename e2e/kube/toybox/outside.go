package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// outside is a host of a name, with the resolver that knows it, and says who
// asked and who came.
func outside(ctx context.Context, address, name string) error {
	pc, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(address, "443"))
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		_, _ = pc.Close(), ln.Close() // the program ends with it
	}()
	fmt.Println("here")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Println("reached by", c.RemoteAddr())
			_ = c.Close()
		}
	}()
	buf := make([]byte, 1500)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		q := buf[:n]
		end := 12 + len(name) + 2 // of the name, where it is the one: RFC 1035 section 4.1.2
		if n < 17 {
			continue
		}
		a := slices.Concat(q[:2], []byte{0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:])
		if n >= end+4 && strings.EqualFold(dotted(q[12:end]), name) {
			fmt.Println("asked by", from)
			a = slices.Concat(q[:2], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end+4])
			if q[end+1] == 1 { // A
				a[7] = 1
				a = append(append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4), net.ParseIP(address).To4()...)
			}
		}
		_, _ = pc.WriteTo(a, from) // who gets no answer asks again
	}
}

// dotted is a name out of a question; "" where it is none.
func dotted(b []byte) string {
	var labels []string
	for len(b) > 1 {
		n := int(b[0])
		if n == 0 || 1+n >= len(b) {
			return ""
		}
		labels, b = append(labels, string(b[1:1+n])), b[1+n:]
	}
	return strings.Join(labels, ".")
}
