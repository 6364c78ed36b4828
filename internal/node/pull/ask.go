package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// token is one of the kubelet's identity for registries. Source: App Service,
// "REST endpoint reference" of managed identities.
func (c Config) token(ctx context.Context, client *http.Client, secret string) (string, error) {
	u, err := url.Parse(c.TokenURL)
	if err != nil {
		return "", err
	}
	u.RawQuery = url.Values{"api-version": {msiVersion}, "resource": {audience}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-IDENTITY-HEADER", secret)
	return ask(client, req, "access_token")
}

// exchange makes the registry's refresh token of a token of the directory.
func exchange(ctx context.Context, client *http.Client, host, token string) (string, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return ask(client, req, "refresh_token")
}

// ask sends a request and gives the member of the answer. No error has a body's
// text in it but the message of a refusal.
func ask(client *http.Client, req *http.Request, member string) (string, error) {
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, mostBytes))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", res.Status, reason(raw))
	}
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil {
		return "", errors.New("the answer is no JSON object")
	}
	text, _ := body[member].(string)
	if text == "" {
		return "", fmt.Errorf("the answer has no %s", member)
	}
	return text, nil
}

const mostReason = 500 // characters

// reason is what a refusal says: a registry's, or the token endpoint's.
func reason(raw []byte) string {
	var body struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return "it does not say why"
	}
	text := body.Description
	if len(body.Errors) > 0 {
		text = body.Errors[0].Message
	}
	if text == "" {
		return "it does not say why"
	}
	return clip(text, mostReason)
}

func clip(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
