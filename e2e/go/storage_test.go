package clients_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

func TestStorage(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg, name := t.Context(), group(t), fmt.Sprintf("e2e%08x", rand.Uint32())
	clients := must(armstorage.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	accounts := clients.NewAccountsClient()
	poller := must(accounts.BeginCreate(ctx, rg, name, armstorage.AccountCreateParameters{
		Location: to.Ptr("eastus"), Kind: to.Ptr(armstorage.KindStorageV2), SKU: &armstorage.SKU{Name: to.Ptr(armstorage.SKUNameStandardLRS)},
	}, nil))(t)
	made := must(poller.PollUntilDone(ctx, nil))(t)
	address := "https://" + name + ".blob.core.windows.net/"
	if *made.Properties.PrimaryEndpoints.Blob != address || *made.Properties.AllowBlobPublicAccess || *made.SKU.Tier != armstorage.SKUTierStandard {
		t.Errorf("made %+v", made.Properties)
	}
	check := armstorage.AccountCheckNameAvailabilityParameters{Name: &name, Type: to.Ptr("Microsoft.Storage/storageAccounts")}
	if got := must(accounts.CheckNameAvailability(ctx, check, nil))(t); *got.NameAvailable {
		t.Error("a name that is used is free")
	}
	containers := clients.NewBlobContainersClient()
	must(containers.Create(ctx, rg, name, "managed", armstorage.BlobContainer{}, nil))(t)
	if got := must(containers.Get(ctx, rg, name, "managed", nil))(t); *got.ContainerProperties.PublicAccess != armstorage.PublicAccessNone {
		t.Errorf("container %+v", got.ContainerProperties)
	}
	must(clients.NewBlobServicesClient().GetServiceProperties(ctx, rg, name, nil))(t)
	keys := must(accounts.ListKeys(ctx, rg, name, nil))(t)
	blobsByKey(t, name, *keys.Keys[0].Value)
	signed := must(accounts.ListServiceSAS(ctx, rg, name, armstorage.ServiceSasParameters{
		CanonicalizedResource: to.Ptr("/blob/" + name + "/bykey"), Resource: to.Ptr(armstorage.SignedResourceC), Permissions: to.Ptr(armstorage.PermissionsL), SharedAccessExpiryTime: to.Ptr(time.Now().Add(time.Hour)),
	}, nil))(t)
	open := must(container.NewClientWithNoCredential(address+"bykey?"+*signed.ServiceSasToken, nil))(t)
	must(open.NewListBlobsFlatPager(nil).NextPage(ctx))(t)
	_, err := open.Create(ctx, nil)
	refused(t, err, 403, "AuthorizationPermissionMismatch")
	again := must(accounts.RegenerateKey(ctx, rg, name, armstorage.AccountRegenerateKeyParameters{KeyName: to.Ptr("key1")}, nil))(t)
	if *again.Keys[0].Value == *keys.Keys[0].Value || *again.Keys[1].Value != *keys.Keys[1].Value {
		t.Error("the wrong key was replaced")
	}
	_, err = open.NewListBlobsFlatPager(nil).NextPage(ctx)
	refused(t, err, 403, "AuthenticationFailed")
	blobsByToken(t, address, *made.ID)
	must(accounts.Delete(ctx, rg, name, nil))(t)
}

// blobsByKey does with a key of the account what the client can, and signs.
func blobsByKey(t *testing.T, name, key string) {
	ctx, address := t.Context(), "https://"+name+".blob.core.windows.net/"
	cred := must(azblob.NewSharedKeyCredential(name, key))(t)
	c := must(azblob.NewClientWithSharedKeyCredential(address, cred, nil))(t)
	must(c.CreateContainer(ctx, "bykey", &azblob.CreateContainerOptions{Metadata: map[string]*string{"made_by": to.Ptr("a test"), "madeBy2": to.Ptr("x")}}))(t)
	big := make([]byte, 9<<20+17)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	// In blocks, at the same time; and back in ranges.
	must(c.UploadStream(ctx, "bykey", "dir/big file.bin", bytes.NewReader(big), &azblob.UploadStreamOptions{
		BlockSize: 1 << 20, Concurrency: 4, Metadata: map[string]*string{"Color": to.Ptr("blue")}, HTTPHeaders: &blob.HTTPHeaders{BlobContentType: to.Ptr("text/x")},
		TransactionalValidation: blob.TransferValidationTypeComputeCRC64(),
	}))(t)
	back := make([]byte, len(big))
	must(c.DownloadBuffer(ctx, "bykey", "dir/big file.bin", back, &azblob.DownloadBufferOptions{BlockSize: 1 << 20}))(t)
	if !bytes.Equal(back, big) {
		t.Error("another content came back")
	}
	must(c.UploadStream(ctx, "bykey", "a+b é.txt", strings.NewReader("a stream"), nil))(t)
	bc := c.ServiceClient().NewContainerClient("bykey").NewBlockBlobClient("dir/big file.bin")
	props := must(bc.GetProperties(ctx, nil))(t)
	if *props.ContentLength != int64(len(big)) || *props.ContentType != "text/x" || *props.Metadata["Color"] != "blue" {
		t.Errorf("properties %+v", props)
	}
	list := must(bc.GetBlockList(ctx, blockblob.BlockListTypeAll, nil))(t)
	if len(list.CommittedBlocks) != 10 || len(list.UncommittedBlocks) != 0 {
		t.Errorf("blocks %+v", list.BlockList)
	}
	_, err := bc.Upload(ctx, content("new"), &blockblob.UploadOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr[azcore.ETag]("*")}}})
	refused(t, err, 409, "BlobAlreadyExists")
	must(bc.SetMetadata(ctx, map[string]*string{"k": to.Ptr("v")}, nil))(t)
	must(bc.SetHTTPHeaders(ctx, blob.HTTPHeaders{BlobContentType: to.Ptr("text/y")}, nil))(t)
	must(bc.SetTier(ctx, blob.AccessTierCool, nil))(t)
	copied := c.ServiceClient().NewContainerClient("bykey").NewBlobClient("copy")
	must(copied.StartCopyFromURL(ctx, bc.URL(), nil))(t)
	if p := must(copied.GetProperties(ctx, nil))(t); *p.CopyStatus != blob.CopyStatusTypeSuccess {
		t.Errorf("copy %+v", p.CopyStatus)
	}
	pager := c.NewListBlobsFlatPager("bykey", &azblob.ListBlobsFlatOptions{MaxResults: to.Ptr[int32](2), Include: azblob.ListBlobsInclude{Metadata: true}})
	var names []string
	for pager.More() {
		for _, b := range must(pager.NextPage(ctx))(t).Segment.BlobItems {
			names = append(names, *b.Name)
			if *b.Name == "dir/big file.bin" && (*b.Metadata["k"] != "v" || *b.Properties.AccessTier != blob.AccessTierCool || *b.Properties.ETag == "") {
				t.Errorf("listed %+v", b)
			}
		}
	}
	if !slices.Equal(names, []string{"a+b é.txt", "copy", "dir/big file.bin"}) {
		t.Errorf("listed %q", names)
	}
	signedByKey(t, c, cred)
}

func signedByKey(t *testing.T, c *azblob.Client, cred *azblob.SharedKeyCredential) {
	ctx := t.Context()
	one := c.ServiceClient().NewContainerClient("bykey").NewBlobClient("a+b é.txt")
	u := must(one.GetSASURL(sas.BlobPermissions{Read: true}, time.Now().Add(time.Hour), nil))(t)
	got := must(must(blob.NewClientWithNoCredential(u, nil))(t).DownloadStream(ctx, nil))(t)
	if raw := must(io.ReadAll(got.Body))(t); string(raw) != "a stream" {
		t.Errorf("by a signature: %q", raw)
	}
	u = must(c.ServiceClient().GetSASURL(sas.AccountResourceTypes{Service: true}, sas.AccountPermissions{List: true}, time.Now().Add(time.Hour), nil))(t)
	all := must(service.NewClientWithNoCredential(u, nil))(t)
	must(all.NewListContainersPager(nil).NextPage(ctx))(t)
	_, err := all.NewContainerClient("bykey").NewListBlobsFlatPager(nil).NextPage(ctx)
	refused(t, err, 403, "AuthorizationResourceTypeMismatch")
	q := must(sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPS, ExpiryTime: time.Now().Add(time.Hour), Permissions: "c", ContainerName: "bykey", IPRange: sas.IPRange{},
	}.SignWithSharedKey(cred))(t)
	fresh := must(container.NewClientWithNoCredential(c.URL()+"bykey?"+q.Encode(), nil))(t)
	must(fresh.NewBlockBlobClient("created").Upload(ctx, content("1"), nil))(t)
	_, err = fresh.NewBlockBlobClient("created").Upload(ctx, content("2"), nil)
	refused(t, err, 403, "UnauthorizedBlobOverwrite")
}

// blobsByToken does it with the owner's token once there is a role, and signs
// with a key of the owner's delegation.
func blobsByToken(t *testing.T, address, id string) {
	ctx := t.Context()
	c := must(azblob.NewClient(address, owner(t), nil))(t)
	_, err := c.UploadBuffer(ctx, "managed", "x", []byte("x"), nil)
	refused(t, err, 403, "AuthorizationPermissionMismatch") // an owner has no data actions
	az(t, "role", "assignment", "create", "--assignee", az(t, "ad", "signed-in-user", "show", "--query", "id"), "--role", "Storage Blob Data Contributor", "--scope", id)
	must(c.UploadBuffer(ctx, "managed", "x", []byte("by token"), nil))(t)
	start, end := time.Now().Add(-time.Minute).UTC(), time.Now().Add(time.Hour).UTC()
	udc := must(c.ServiceClient().GetUserDelegationCredential(ctx, service.KeyInfo{Start: to.Ptr(start.Format(sas.TimeFormat)), Expiry: to.Ptr(end.Format(sas.TimeFormat))}, nil))(t)
	q := must(sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPS, StartTime: start, ExpiryTime: end, Permissions: "r", ContainerName: "managed", BlobName: "x",
	}.SignWithUserDelegation(udc))(t)
	one := must(blob.NewClientWithNoCredential(address+"managed/x?"+q.Encode(), nil))(t)
	if raw := must(io.ReadAll(must(one.DownloadStream(ctx, nil))(t).Body))(t); string(raw) != "by token" {
		t.Errorf("by delegation: %q", raw)
	}
	_, err = one.Delete(ctx, nil)
	refused(t, err, 403, "AuthorizationPermissionMismatch")
	// Without a credential the service says where tokens are to be had.
	resp := must(http.DefaultClient.Do(must(http.NewRequestWithContext(ctx, http.MethodGet, address+"managed/x", nil))(t)))(t)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 401 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "resource_id=https://storage.azure.com") {
		t.Errorf("%d %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
}

func content(s string) io.ReadSeekCloser { return streaming.NopCloser(strings.NewReader(s)) }
