package proxy

import "net/http"

// SetClient lets a test's certificate be trusted.
func (e *Exchange) SetClient(c *http.Client) { e.http = c }
