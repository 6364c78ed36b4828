package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxRequest is the most of a request file that is sent, in bytes.
const maxRequest = 64 << 20

func endpointInvoke() *command {
	return &command{path: "ml online-endpoint invoke", short: "Send a request to an online endpoint and show the answer.",
		example: "ml online-endpoint invoke -g myGroup -w myWorkspace -n myEndpoint --request-file request.json",
		args: inWorkspace(endpointName().required(), opt("request-file", "File with the request, in JSON.").or("-r").required(),
			opt("deployment-name", "Deployment that shall answer, whatever its traffic.").or("-d", "--deployment"), localEndpointOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			body, err := readRequestFile(c.filePath(c.text("request-file")))
			if err != nil {
				return nil, err
			}
			v, err := w.get(ctx, onlineEndpoints, c.text("name"))
			if err != nil {
				return nil, err
			}
			if d := c.text("deployment-name"); d != "" {
				l, err := w.list(ctx, onlineEndpoints, c.text("name"), "deployments")
				if err != nil {
					return nil, err
				}
				if names := deploymentNames(l); !slices.Contains(names, d) {
					return nil, failf("Deployment %s not found for this endpoint. Its deployments: %s", d, firstNonEmpty(strings.Join(names, ", "), "none"))
				}
			}
			return w.invoke(ctx, v, c.text("deployment-name"), body)
		})}
}

// readRequestFile reads a request and writes it again as the SDK does.
func readRequestFile(path string) ([]byte, error) {
	b, err := readLimited(path, maxRequest)
	if err != nil {
		return nil, failf("No such file or directory: %s", path)
	}
	v, err := decode(b)
	if err != nil || v == nil {
		return nil, failf("The file %s is not valid JSON.", path)
	}
	return json.Marshal(v)
}

// invoke scores a request and gives the answer as it came.
func (w *workspace) invoke(ctx context.Context, endpoint any, deployment string, body []byte) (any, error) {
	uri := textAt(endpoint, "properties", "scoringUri")
	if u, err := url.Parse(uri); err != nil || u.Scheme != "https" {
		return nil, failf("The endpoint '%s' has no scoring URI yet: it is %s.", textAt(endpoint, "name"), textAt(endpoint, "properties", "provisioningState"))
	}
	creds, err := w.credentials(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	h := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + firstNonEmpty(textAt(creds, "primaryKey"), textAt(creds, "accessToken"))}}
	if deployment != "" {
		h.Set("azureml-model-deployment", deployment)
	}
	a, err := w.m.s.send(ctx, request{method: http.MethodPost, url: uri, body: body, header: h})
	if err != nil {
		return nil, err
	}
	if a.status >= 300 {
		return nil, scoringError(a)
	}
	return string(a.body), nil
}

// scoringError words a refusal of the scoring plane as azure-core does.
func scoringError(a *answer) error {
	text := strings.TrimSpace(string(a.body))
	msg := fmt.Sprintf("(%d) Operation returned an invalid status '%s'", a.status, http.StatusText(a.status))
	if s := a.header.Get("ms-azureml-model-error-statuscode"); s != "" {
		msg += fmt.Sprintf("\nThe model answered %s %s", s, printable(a.header.Get("ms-azureml-model-error-reason")))
	}
	if text != "" {
		msg += "\nContent: " + text
	}
	err := failf("%s", msg)
	if id := firstNonEmpty(a.header.Get("x-ms-correlation-request-id"), a.header.Get("x-ms-request-id")); id != "" && (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden) {
		return withHint(err, "To see why: laz explain %s", id)
	}
	return err
}
