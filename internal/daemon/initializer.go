package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/compute/fetch"
)

// terminationLog is where a container says why it ended.
// Source: Kubernetes, "Determine the Reason for Pod Failure".
const terminationLog = "/dev/termination-log"

// initializeStorage is this program as the first container of a deployment's pod.
func initializeStorage(ctx context.Context) int {
	list, err := fetch.ParseDownloads(os.Getenv(compute.DownloadsVariable))
	if err != nil {
		fmt.Fprintf(os.Stderr, "ERROR: %v\n", err)
	} else {
		err = fetch.Run(ctx, fetch.Config{
			Downloads: list, Endpoint: os.Getenv("IDENTITY_ENDPOINT"), Secret: os.Getenv("IDENTITY_HEADER"), Log: os.Stdout,
			Client: &http.Client{Transport: &http.Transport{ // no proxy: what is reached is the network's business
				DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
				TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute, MaxIdleConnsPerHost: 16,
			}},
		})
	}
	if err == nil {
		return 0
	}
	if why := os.WriteFile(terminationLog, []byte(err.Error()), 0o600); why != nil {
		fmt.Fprintf(os.Stderr, "WARNING: %v\n", why)
	}
	return exitError
}
