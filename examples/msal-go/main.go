// Msal-go is the sample of the workload identity quick start on today's SDKs:
// it reads one secret of a key vault, says so, and reads it again every minute.
// It holds no credential and sets no option; the webhook of its cluster gives
// it the identity of its service account.
//
//	KEYVAULT_URL=https://NAME.vault.azure.net/ SECRET_NAME=my-secret msal-go
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"k8s.io/klog/v2"
)

// interval is the time between two reads.
const interval = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	vault, name := os.Getenv("KEYVAULT_URL"), os.Getenv("SECRET_NAME")
	err := watch(ctx, vault, name)
	stop()
	if err != nil {
		klog.ErrorS(err, "failed to get secret from keyvault", "keyvault", vault, "secretName", name)
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

// watch reads the secret until ctx ends or a read fails.
func watch(ctx context.Context, vault, name string) error {
	if vault == "" || name == "" {
		return errors.New("KEYVAULT_URL and SECRET_NAME are both needed")
	}
	credential, err := azidentity.NewWorkloadIdentityCredential(nil)
	if err != nil {
		return err
	}
	client, err := azsecrets.NewClient(vault, credential, nil)
	if err != nil {
		return err
	}
	for {
		secret, err := client.GetSecret(ctx, name, "", nil) // "" is the newest version
		if err != nil {
			return err
		}
		if secret.Value == nil {
			return errors.New("the secret has no value")
		}
		klog.InfoS("successfully got secret", "secret", *secret.Value)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}
