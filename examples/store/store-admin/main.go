// Store-admin is the page on which the store's people keep its products, and
// ask the model for descriptions.
//
//	PRODUCT_SERVICE_URL=http://product-service:3002/ store-admin
package main

import (
	"log/slog"
	"net/url"
	"os"

	"lazurite.dev/examples/store/internal/httpd"
)

func main() {
	products, err := url.Parse(httpd.Env("PRODUCT_SERVICE_URL", "http://product-service:3002/"))
	if err != nil || products.Host == "" {
		slog.Error("PRODUCT_SERVICE_URL is no URL, such as http://product-service:3002/")
		os.Exit(1)
	}
	os.Exit(httpd.Main("store-admin", "8081", newService(products)))
}
