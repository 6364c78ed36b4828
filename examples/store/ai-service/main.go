// Ai-service writes descriptions of products with Azure OpenAI. It is the
// ai-service of aks-store-demo: the same requests, answers and environment
// variables, on the official client of OpenAI and azidentity.
//
//	USE_AZURE_OPENAI=True USE_AZURE_AD=True AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com/ \
//	    AZURE_OPENAI_DEPLOYMENT_NAME=description ai-service
package main

import (
	"log/slog"
	"os"

	"lazurite.dev/examples/store/internal/httpd"
)

func main() {
	model, err := connect(os.Getenv)
	if err != nil {
		slog.Error("no description can be written", "error", err)
	}
	os.Exit(httpd.Main("ai-service", "5001", newService(model, err)))
}
