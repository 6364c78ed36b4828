// Product-service keeps the store's products, and hands requests for texts on
// to the ai-service. It is the product-service of aks-store-demo: the same
// requests and answers; products live as long as the process.
//
//	AI_SERVICE_URL=http://ai-service:5001/ product-service
package main

import (
	"log/slog"
	"net/url"
	"os"

	"lazurite.dev/examples/store/internal/httpd"
)

func main() {
	ai, err := url.Parse(httpd.Env("AI_SERVICE_URL", "http://ai-service:5001/"))
	if err != nil || ai.Host == "" {
		slog.Error("AI_SERVICE_URL is no URL, such as http://ai-service:5001/")
		os.Exit(1)
	}
	os.Exit(httpd.Main("product-service", "3002", newService(ai)))
}
