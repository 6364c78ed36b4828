package vnet_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/vnet"
)

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func owns(host string) bool {
	return strings.HasSuffix(strings.ToLower(host), ".vault.azure.net")
}

// serve starts a Resolver on loopback and gives its address.
func serve(t *testing.T, cfg vnet.ResolverConfig) string {
	t.Helper()
	cfg.Network, cfg.Owns, cfg.Front, cfg.Base = "c", owns, netip.MustParseAddr("198.18.7.2"), netip.MustParsePrefix("198.18.0.0/15")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := vnet.NewResolver(cfg)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.ServePacket(ctx, pc); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := r.ServeStream(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return pc.LocalAddr().String()
}

// upstream is a resolver of the host's.
func upstream(t *testing.T, answer func(w dns.ResponseWriter, q *dns.Msg)) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc}, {Listener: ln}} {
		s.Handler = dns.HandlerFunc(answer)
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func asks(servers ...netip.AddrPort) func() ([]netip.AddrPort, error) {
	return func() ([]netip.AddrPort, error) { return servers, nil }
}

func question(name string, typ uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, typ)
	return m
}

func ask(t *testing.T, network, server string, q *dns.Msg) *dns.Msg {
	t.Helper()
	m, _, err := (&dns.Client{Net: network, Timeout: 10 * time.Second}).Exchange(q, server)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestResolver_OwnedNamesAreTheFrontDoor(t *testing.T) {
	at := serve(t, vnet.ResolverConfig{Ask: func() ([]netip.AddrPort, error) {
		t.Error("somebody was asked for an owned name")
		return nil, nil
	}})
	for _, network := range []string{"udp", "tcp"} {
		m := ask(t, network, at, question("NoSuch.vault.azure.net.", dns.TypeA))
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "198.18.7.2" {
			t.Errorf("%s: got %v", network, m)
		}
		for _, typ := range []uint16{dns.TypeAAAA, dns.TypeHTTPS, dns.TypeMX} {
			if m := ask(t, network, at, question("v.vault.azure.net.", typ)); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1 {
				t.Errorf("%s %s: got %v", network, dns.TypeToString[typ], m)
			}
		}
	}
}

func TestResolver_OthersAreAsked(t *testing.T) {
	up := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if opt := q.IsEdns0(); opt == nil || len(opt.Option) > 0 {
			m.Rcode = dns.RcodeRefused
		}
		rr, _ := dns.NewRR(strings.ToLower(q.Question[0].Name) + " 60 IN A 192.0.2.9")
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m)
	})
	at := serve(t, vnet.ResolverConfig{Ask: asks(up)})
	q := question("WWW.example.COM.", dns.TypeA)
	q.SetEdns0(4096, true)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
	m := ask(t, "udp", at, q)
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || m.Question[0].Name != "WWW.example.COM." || m.IsEdns0() == nil {
		t.Errorf("got %v", m)
	}
}

func TestResolver_LongAnswersComeOverTCP(t *testing.T) {
	up := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for i := range 200 {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 60 IN A 192.0.2.%d", q.Question[0].Name, i))
			m.Answer = append(m.Answer, rr)
		}
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(1232)
		}
		_ = w.WriteMsg(m)
	})
	at := serve(t, vnet.ResolverConfig{Ask: asks(up)})
	if m := ask(t, "udp", at, question("many.example.com.", dns.TypeA)); !m.Truncated || len(m.Answer) > 31 {
		t.Errorf("udp: %d answers, truncated %v", len(m.Answer), m.Truncated)
	}
	if m := ask(t, "tcp", at, question("many.example.com.", dns.TypeA)); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("tcp: %d answers, truncated %v", len(m.Answer), m.Truncated)
	}
}

func TestResolver_TheNextIsAskedWhenOneFails(t *testing.T) {
	bad := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeServerFailure)
		_ = w.WriteMsg(m)
	})
	liar := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(question("other.example.", dns.TypeA))
		m.Id = q.Id
		_ = w.WriteMsg(m)
	})
	good := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeNameError)
		_ = w.WriteMsg(m)
	})
	at := serve(t, vnet.ResolverConfig{Ask: asks(bad, liar, good)})
	if m := ask(t, "udp", at, question("x.example.", dns.TypeA)); m.Rcode != dns.RcodeNameError {
		t.Errorf("got %v", m)
	}
}

func TestResolver_SaysWhenNobodyAnswers(t *testing.T) {
	var log lines
	dead := upstream(t, func(dns.ResponseWriter, *dns.Msg) {})
	at := serve(t, vnet.ResolverConfig{Ask: asks(dead), Log: log.logger()})
	begin := time.Now()
	q := question("x.example.", dns.TypeA)
	q.SetEdns0(1232, false)
	m := ask(t, "udp", at, q)
	if m.Rcode != dns.RcodeServerFailure || time.Since(begin) > 6*time.Second {
		t.Errorf("got %v after %s", m, time.Since(begin))
	}
	if got := log.String(); !strings.Contains(got, "no resolver answered") || !strings.Contains(got, "name=x.example.") {
		t.Errorf("log: %s", got)
	}
	none := serve(t, vnet.ResolverConfig{Ask: asks()})
	if m := ask(t, "udp", none, question("x.example.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("without resolvers: %v", m)
	}
}

func TestResolver_OfflineNobodyIsAsked(t *testing.T) {
	var asked atomic.Int32
	reg := prometheus.NewRegistry()
	metrics, err := vnet.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	at := serve(t, vnet.ResolverConfig{Offline: true, Metrics: metrics, Ask: func() ([]netip.AddrPort, error) { asked.Add(1); return nil, nil }})
	q := question("example.com.", dns.TypeA)
	q.SetEdns0(1232, false)
	m := ask(t, "udp", at, q)
	if m.Rcode != dns.RcodeNameError || asked.Load() != 0 || !strings.Contains(m.IsEdns0().String(), "--offline") {
		t.Errorf("got %v, asked %d", m, asked.Load())
	}
	if m := ask(t, "udp", at, question("v.vault.azure.net.", dns.TypeA)); len(m.Answer) != 1 {
		t.Errorf("an owned name: %v", m)
	}
	got, err := reg.Gather()
	if err != nil || len(got) != 1 || len(got[0].Metric) != 2 {
		t.Errorf("metrics: %v, %v", got, err)
	}
}

func TestResolver_Refusals(t *testing.T) {
	at := serve(t, vnet.ResolverConfig{Offline: true})
	chaos := question("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	update := question("vault.azure.net.", dns.TypeSOA)
	update.Opcode = dns.OpcodeUpdate
	version := question("v.vault.azure.net.", dns.TypeA)
	version.SetEdns0(1232, false)
	version.IsEdns0().SetVersion(1)
	for name, c := range map[string]struct {
		q    *dns.Msg
		want int
	}{
		"chaos":          {chaos, dns.RcodeRefused},
		"transfer":       {question("v.vault.azure.net.", dns.TypeAXFR), dns.RcodeRefused},
		"update":         {update, dns.RcodeNotImplemented},
		"version":        {version, dns.RcodeBadVers},
		"reverse inside": {question("2.7.18.198.in-addr.arpa.", dns.TypePTR), dns.RcodeNameError},
	} {
		if m := ask(t, "udp", at, c.q); m.Rcode != c.want {
			t.Errorf("%s: got %s, want %s", name, dns.RcodeToString[m.Rcode], dns.RcodeToString[c.want])
		}
	}
}
