package server

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/web"
)

// acceptBalanced accepts from the front door's address. Connections from the
// operator's balancers say whose they are; the others are their peers' own.
func (s *Server) acceptBalanced() error {
	trusted, err := s.cfg.balancers()
	if err != nil {
		return err
	}
	if len(trusted) == 0 {
		return web.Feed(s.listen, s.secure.Hand)
	}
	return web.Sort(s.listen, func(conn net.Conn) (net.Conn, *web.Conduit) {
		peer := arrival.Of(conn.RemoteAddr()).Client
		if !slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(peer) }) {
			return conn, s.secure
		}
		client, err := arrival.ReadHeader(conn)
		if err != nil {
			s.log.Warn("connection from a balancer refused", slog.String("balancer", peer.String()), slog.String("error", err.Error()))
			return conn, nil
		}
		if !client.IsValid() { // the balancer's own, such as a health check
			client = peer
		}
		return arrival.Mark(conn, arrival.Arrival{Client: client}), s.secure
	})
}
