package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"
)

var _ Networks = (*Client)(nil)

func network(uid, what string) string { return "/v1/networks/" + url.PathEscape(uid) + what }

// ApplyNetwork implements Networks.
func (c *Client) ApplyNetwork(ctx context.Context, n Network) error {
	if err := n.Validate(); err != nil {
		return err
	}
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	for range 3 {
		if err = c.call(ctx, http.MethodPost, "/v1/networks", bytes.NewReader(raw), nil); !wasCut(err) || ctx.Err() != nil || !c.comesBack(ctx, returnTime) {
			break
		}
	}
	return err
}

// RemoveNetwork implements Networks.
func (c *Client) RemoveNetwork(ctx context.Context, uid string) (err error) {
	for range 3 {
		if err = c.call(ctx, http.MethodDelete, network(uid, ""), nil, nil); !wasCut(err) || ctx.Err() != nil || !c.comesBack(ctx, returnTime) {
			break
		}
	}
	return err
}

// Networks implements Networks.
func (c *Client) Networks(ctx context.Context) ([]NetworkStatus, error) {
	var all []NetworkStatus
	return all, c.call(ctx, http.MethodGet, "/v1/networks", nil, &all)
}

// ListenNetwork implements Networks.
func (c *Client) ListenNetwork(ctx context.Context, uid, protocol string, at netip.AddrPort) (*os.File, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req, err := ask(ctx, conn, network(uid, "/listen"), url.Values{"network": {protocol}, "at": {at.String()}})
	if err != nil {
		return nil, err
	}
	return receive(conn, req)
}

// ask writes a request by hand: a file comes beside the answer.
func ask(ctx context.Context, conn *net.UnixConn, path string, question url.Values) (*http.Request, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path+"?"+question.Encode(), http.NoBody)
	if err == nil {
		err = errors.Join(conn.SetDeadline(deadline), req.Write(conn))
	}
	if err != nil {
		return nil, fmt.Errorf("asking the node agent: %w", err)
	}
	return req, nil
}

// Join implements Networks. The place lives as long as the connection.
func (c *Client) Join(ctx context.Context, uid, subnet string) (*Place, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	req, err := ask(ctx, conn, network(uid, "/join"), url.Values{"subnet": {subnet}})
	if err == nil {
		var p *Place
		if p, err = placed(conn, req); err == nil {
			return p, nil
		}
	}
	return nil, errors.Join(err, conn.Close())
}

func placed(conn *net.UnixConn, req *http.Request) (*Place, error) {
	answer, rights := make([]byte, 64<<10), make([]byte, 256)
	n, m, _, _, err := conn.ReadMsgUnix(answer, rights)
	if err != nil {
		return nil, fmt.Errorf("reading the node agent's answer: %w", err)
	}
	files, err := filesIn(rights[:m])
	p := &Place{end: conn.Close}
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(answer[:n]), conn)), req); err == nil {
			if err = refusal(resp); err == nil {
				err = json.NewDecoder(resp.Body).Decode(&p.Member)
			}
		}
	}
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("the node agent sent %d namespaces", len(files))
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, err
	}
	p.Space = files[0]
	return p, nil
}
