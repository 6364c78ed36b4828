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
	"strconv"
	"syscall"
	"time"
)

// Client is an [Agent] in another process.
type Client struct {
	socket string
	http   *http.Client
}

var _ Agent = (*Client)(nil)

// Dial is the agent of the state folder home. It connects with each call, so
// an agent that was started again meanwhile is found; ErrNoAgent comes from
// the calls, while none runs.
func Dial(home string) (*Client, error) {
	instance, err := Instance(home)
	if err != nil {
		return nil, err
	}
	c := &Client{socket: Socket(instance)}
	c.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) }}}
	return c, nil
}

// connect reaches the socket. Its folder is root's, in a folder of root's, so
// who answers there is root's too.
func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoAgent
	}
	if errors.Is(err, syscall.ECONNREFUSED) { // one that ends by itself takes its socket along
		return nil, ErrKilled
	}
	if err != nil {
		return nil, fmt.Errorf("reaching the node agent: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

// Fault is an error on its way from the agent.
type Fault struct {
	Code    string // "" is any other error
	Message string
}

func faults() map[string]error {
	return map[string]error{"NotFound": ErrNotFound, "Invalid": ErrInvalid, "Unavailable": ErrUnavailable, "Canceled": context.Canceled}
}

// FaultOf is how err goes over the wire.
func FaultOf(err error) Fault {
	for code, known := range faults() {
		if errors.Is(err, known) {
			return Fault{code, err.Error()}
		}
	}
	return Fault{"", err.Error()}
}

// Unwrap gives back the sentinel that the agent meant.
func (f Fault) Unwrap() error { return faults()[f.Code] }

// Error implements error.
func (f Fault) Error() string { return f.Message }

// aliveTime is how long a living agent may take to say so.
const aliveTime = 5 * time.Second

// Running reports whether an agent lives. It may still be busy with what
// another one left; other calls wait for that. To connect is not enough: the
// socket of a process that was killed takes connections until the kernel
// has taken the process apart, and then cuts them. One that is silent holds
// the state folder, so it counts as running.
func (c *Client) Running(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/alive", nil)
	if err != nil {
		return false
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return errors.Is(ctx.Err(), context.DeadlineExceeded)
	}
	_ = resp.Body.Close()
	return true
}

func (c *Client) call(ctx context.Context, method, path string, body io.Reader, answer any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(answer); err != nil {
		return fmt.Errorf("reading the node agent's answer: %w", err)
	}
	return nil
}

// send returns an answer with status 200, or its error.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	for _, known := range []error{ErrKilled, ErrNoAgent} {
		if errors.Is(err, known) {
			return nil, known
		}
	}
	if err != nil {
		return nil, fmt.Errorf("asking the node agent: %w", err)
	}
	return resp, refusal(resp)
}

func refusal(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	defer resp.Body.Close()
	var f Fault
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&f); err != nil || f.Message == "" {
		return fmt.Errorf("the node agent answered %s", resp.Status)
	}
	return f
}

func of(uid, what string) string { return "/v1/clusters/" + url.PathEscape(uid) + what }

// Info implements Agent.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var i Info
	return i, c.call(ctx, http.MethodGet, "/v1/info", nil, &i)
}

// Progress is a line of what Apply tells over the wire: a phase, or at last
// how it ended.
type Progress struct {
	Phase *Phase `json:",omitempty"`
	End   bool   `json:",omitempty"`
	Fault *Fault `json:",omitempty"`
}

// Apply implements Agent. When the agent ends meanwhile and another one comes,
// it is asked to go on.
func (c *Client) Apply(ctx context.Context, spec Cluster, tell func(Phase)) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	for range 3 {
		if err = c.apply(ctx, raw, tell); !errors.Is(err, errCut) || !c.comesBack(ctx, returnTime) {
			break
		}
	}
	return err
}

// errCut says that an agent ended in the middle of its answer.
var errCut = errors.New("the node agent ended meanwhile")

// wasCut reports whether err says that there was an agent until now.
func wasCut(err error) bool {
	return errors.Is(err, ErrKilled) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// comesBack waits until an agent answers, at most limit: its keeper starts it again
// when it was killed.
func (c *Client) comesBack(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !c.Running(ctx) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// returnTime is how long it may take until an agent that was killed is there again.
const returnTime = 10 * time.Second

func (c *Client) apply(ctx context.Context, raw []byte, tell func(Phase)) error {
	resp, err := c.send(ctx, http.MethodPost, "/v1/clusters", bytes.NewReader(raw))
	if wasCut(err) && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errCut, err)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var p Progress
		if err := lines.Decode(&p); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %w", errCut, err)
		}
		if p.Phase != nil && tell != nil {
			tell(*p.Phase)
		}
		if p.End && p.Fault != nil {
			return *p.Fault
		}
		if p.End {
			return nil
		}
	}
}

// Remove implements Agent. When the agent ends meanwhile and another one comes,
// it is asked to go on.
func (c *Client) Remove(ctx context.Context, uid string) (err error) {
	for range 3 {
		if err = c.call(ctx, http.MethodDelete, of(uid, ""), nil, nil); !wasCut(err) || ctx.Err() != nil || !c.comesBack(ctx, returnTime) {
			break
		}
	}
	return err
}

// Status implements Agent.
func (c *Client) Status(ctx context.Context) ([]ClusterStatus, error) {
	var all []ClusterStatus
	return all, c.call(ctx, http.MethodGet, "/v1/clusters", nil, &all)
}

// Admin implements Agent.
func (c *Client) Admin(ctx context.Context, uid string) (Credentials, error) {
	var k Credentials
	return k, c.call(ctx, http.MethodGet, of(uid, "/admin"), nil, &k)
}

// LoadImage implements Agent.
func (c *Client) LoadImage(ctx context.Context, uid string, archive io.Reader) ([]string, error) {
	var names []string
	// The caller opened it and closes it; as an io.Closer the request would.
	return names, c.call(ctx, http.MethodPost, of(uid, "/images"), io.NopCloser(archive), &names)
}

// Images implements Agent.
func (c *Client) Images(ctx context.Context, uid string) ([]Image, error) {
	var all []Image
	return all, c.call(ctx, http.MethodGet, of(uid, "/images"), nil, &all)
}

// RemoveImage implements Agent.
func (c *Client) RemoveImage(ctx context.Context, uid, name string) error {
	return c.call(ctx, http.MethodDelete, of(uid, "/images")+"?name="+url.QueryEscape(name), nil, nil)
}

// Stop ends all clusters' processes in order, and the agent. It returns when
// nothing of them is on the machine but what the state folder keeps.
func (c *Client) Stop(ctx context.Context) error {
	return c.whenEnded(ctx, func() error { return c.call(ctx, http.MethodPost, "/v1/stop", nil, nil) })
}

// Purge kills everything, erases what the agent keeps in the state folder, and
// ends the agent; it returns when that has ended.
func (c *Client) Purge(ctx context.Context) error {
	return c.whenEnded(ctx, func() error { return c.call(ctx, http.MethodPost, "/v1/purge", nil, nil) })
}

// Listen implements Agent. The socket comes beside the answer, as SCM_RIGHTS of
// unix(7), so the request is written by hand.
func (c *Client) Listen(ctx context.Context, uid, network string, port int) (*os.File, error) {
	if !ListenPort(network, port) {
		return nil, fmt.Errorf("%w: no one listens on %s port %d", ErrInvalid, network, port)
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req, err := ask(ctx, conn, of(uid, "/listen"), url.Values{"network": {network}, "port": {strconv.Itoa(port)}})
	if err != nil {
		return nil, err
	}
	return receive(conn, req)
}

// DialPod implements Agent.
func (c *Client) DialPod(ctx context.Context, uid string, at netip.AddrPort) (net.Conn, error) {
	if !PodPort(at) {
		return nil, fmt.Errorf("%w: %s is no port of a pod", ErrInvalid, at)
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req, err := ask(ctx, conn, of(uid, "/dial"), url.Values{"at": {at.String()}})
	if err != nil {
		return nil, err
	}
	f, err := receive(conn, req)
	if err != nil {
		return nil, err
	}
	defer f.Close() // FileConn has its own
	return net.FileConn(f)
}

// receive reads an answer and the file beside its first bytes.
func receive(conn *net.UnixConn, req *http.Request) (*os.File, error) {
	answer, rights := make([]byte, 64<<10), make([]byte, 256)
	n, m, _, _, err := conn.ReadMsgUnix(answer, rights)
	if err != nil {
		return nil, fmt.Errorf("reading the node agent's answer: %w", err)
	}
	files, err := filesIn(rights[:m])
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(answer[:n]), conn)), req); err == nil {
			err = refusal(resp)
		}
	}
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("the node agent sent %d sockets", len(files))
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, err
	}
	return files[0], nil
}

func filesIn(rights []byte) ([]*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("reading the node agent's answer: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return files, fmt.Errorf("reading the node agent's answer: %w", err)
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "socket"))
		}
	}
	return files, nil
}
