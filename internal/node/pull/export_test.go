package pull

import (
	"context"
	"io"
	"net"
)

// RunWith is Run where names are resolved by resolve.
func RunWith(ctx context.Context, file, secret string, in io.Reader, out io.Writer, resolve func(string) string) error {
	return run(ctx, file, secret, in, out, func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, resolve(address))
	})
}

// Reason is what a refusal says.
func Reason(raw []byte) string { return reason(raw) }

// Repository is an image without tag and digest.
func Repository(image string) string { return repository(image) }
