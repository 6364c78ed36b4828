// Keyvault-reader reads one secret of a key vault and says what it got, as the
// quick-start sample of workload identity does. It holds no credential and sets
// no option: azidentity finds the identity in the environment, which a cluster's
// webhook or `laz run --as` fills.
//
//	KEYVAULT_URL=https://NAME.vault.azure.net/ SECRET_NAME=my-secret keyvault-reader
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds | log.Lshortfile)
	value, err := read(context.Background(), os.Getenv("KEYVAULT_URL"), os.Getenv("SECRET_NAME"))
	if err != nil {
		log.Printf("%q err=%q", "failed to get secret from keyvault", err)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	log.Printf("%q secret=%q", "successfully got secret", value)
}

func read(ctx context.Context, vault, name string) (string, error) {
	if vault == "" || name == "" {
		return "", fmt.Errorf("KEYVAULT_URL and SECRET_NAME are both needed")
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return "", err
	}
	client, err := azsecrets.NewClient(vault, credential, nil)
	if err != nil {
		return "", err
	}
	secret, err := client.GetSecret(ctx, name, "", nil) // "" is the newest version
	if err != nil {
		return "", err
	}
	if secret.Value == nil {
		return "", fmt.Errorf("the secret %s has no value", name)
	}
	return *secret.Value, nil
}
