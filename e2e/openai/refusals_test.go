package openai_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"
)

// refused says that err is the service's answer with this status and code, if
// that is not "", and that its message has all words.
func refused(t *testing.T, err error, status int, code string, words ...string) *openai.Error {
	t.Helper()
	var r *openai.Error
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal with %d %s", err, status, code)
	}
	if r.StatusCode != status || code != "" && r.Code != code {
		t.Errorf("refused with %d %s, want %d %s: %s", r.StatusCode, r.Code, status, code, r.Message)
	}
	for _, w := range words {
		if !strings.Contains(r.Message, w) {
			t.Errorf("the refusal does not say %q: %s", w, r.Message)
		}
	}
	return r
}

// chat asks for an answer, once.
func chat(t *testing.T, client openai.Client, deployment string) error {
	t.Helper()
	ask := says("ahoy")
	ask.Model = deployment
	_, err := client.Chat.Completions.New(t.Context(), ask, option.WithMaxRetries(0))
	return err
}

const action = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action"

// Whoever has the role may call, and do nothing else; every surface says so in its own words.
func TestUserMayCallAndNotDeploy(t *testing.T) {
	if !as(t, user) {
		return
	}
	if err := chat(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithTokenCredential(credential(t))), "chat"); err != nil {
		t.Error(err)
	}
	err := deploy(t, "mine")
	forbidden(t, err, "Microsoft.CognitiveServices/accounts/deployments/write")
	_, err = must(armcognitiveservices.NewAccountsClient(cloud.Vars["SUBSCRIPTION"], credential(t), nil))(t).ListKeys(t.Context(), group, cloud.Vars["AOAI_NAME"], nil)
	forbidden(t, err, "Microsoft.CognitiveServices/accounts/listKeys/action")
	// The other account has given it nothing.
	refused(t, chat(t, onAzure(cloud.Vars["OTHER_ENDPOINT"], azure.WithTokenCredential(credential(t))), "chat"), 401, "PermissionDenied", action)
}

// Whoever manages the account may deploy and read its keys; a token of theirs calls nothing.
func TestContributorMayDeployAndNotCall(t *testing.T) {
	if !as(t, other) {
		return
	}
	if err := deploy(t, "theirs"); err != nil {
		t.Error(err)
	}
	keys := must(must(armcognitiveservices.NewAccountsClient(cloud.Vars["SUBSCRIPTION"], credential(t), nil))(t).ListKeys(t.Context(), group, cloud.Vars["AOAI_NAME"], nil))(t)
	if err := chat(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithAPIKey(*keys.Key2)), "theirs"); err != nil {
		t.Error(err)
	}
	refused(t, chat(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithTokenCredential(credential(t))), "theirs"), 401, "PermissionDenied", action)
	refused(t, chat(t, onV1(cloud.Vars["AOAI_ENDPOINT"], token(t, scope)), "theirs"), 401, "PermissionDenied")
}

func deploy(t *testing.T, name string) error {
	t.Helper()
	poller, err := must(armcognitiveservices.NewDeploymentsClient(cloud.Vars["SUBSCRIPTION"], credential(t), nil))(t).BeginCreateOrUpdate(
		t.Context(), group, cloud.Vars["AOAI_NAME"], name, armcognitiveservices.Deployment{
			SKU: &armcognitiveservices.SKU{Name: to.Ptr("Standard"), Capacity: to.Ptr(int32(10))},
			Properties: &armcognitiveservices.DeploymentProperties{
				Model: &armcognitiveservices.DeploymentModel{Format: to.Ptr("OpenAI"), Name: to.Ptr("parrot"), Version: to.Ptr("1")},
			},
		}, nil)
	if err != nil {
		return err
	}
	_, err = poller.PollUntilDone(t.Context(), nil)
	return err
}

// forbidden says that the management plane refused what needs this action.
func forbidden(t *testing.T, err error, action string) {
	t.Helper()
	var r *azcore.ResponseError
	if !errors.As(err, &r) || r.StatusCode != http.StatusForbidden || r.ErrorCode != "AuthorizationFailed" || !strings.Contains(err.Error(), action) {
		t.Errorf("got %v, want AuthorizationFailed for %s", err, action)
	}
}

func TestRoleCountsOnTheNextCall(t *testing.T) {
	if !as(t, late) {
		return
	}
	principal := cloud.Vars["late"]
	client := onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithTokenCredential(credential(t)))
	refused(t, chat(t, client, "chat"), 401, "PermissionDenied", principal, action)
	az(t, "role", "assignment", "create", "--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal",
		"--role", "Cognitive Services OpenAI User", "--scope", cloud.Vars["AOAI_ID"])
	if err := chat(t, client, "chat"); err != nil {
		t.Errorf("with the role: %v", err)
	}
	az(t, "role", "assignment", "delete", "--assignee", principal, "--role", "Cognitive Services OpenAI User", "--scope", cloud.Vars["AOAI_ID"])
	refused(t, chat(t, client, "chat"), 401, "PermissionDenied", principal)
	out := must(cloud.Laz("explain"))(t)
	for _, want := range []string{"Cognitive Services OpenAI User", "role assignment create", principal} {
		if !strings.Contains(out, want) {
			t.Errorf("laz explain does not say %q:\n%s", want, out)
		}
	}
}

func TestKeysThatAreNot(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	for name, key := range map[string]string{"another account's": cloud.Vars["OTHER_KEY"], "no": "0123456789abcdef0123456789abcdef"} {
		t.Run(name, func(t *testing.T) {
			refused(t, chat(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithAPIKey(key)), "chat"), 401, "401", "Access denied due to invalid subscription key")
			refused(t, chat(t, onV1(cloud.Vars["AOAI_ENDPOINT"], key), "chat"), 401, "")
		})
	}
}

func TestTokenOfAnotherAudience(t *testing.T) {
	if !as(t, user) {
		return
	}
	for _, scope := range []string{"https://vault.azure.net/.default", "https://management.azure.com/.default"} {
		signIn := azure.WithTokenCredential(credential(t), azure.WithTokenCredentialScopes([]string{scope}))
		refused(t, chat(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], signIn), "chat"), 401, "")
		refused(t, chat(t, onV1(cloud.Vars["AOAI_ENDPOINT"], token(t, scope)), "chat"), 401, "")
	}
}

func TestDeploymentThatIsNot(t *testing.T) {
	if !as(t, user) {
		return
	}
	for _, client := range []openai.Client{
		onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithTokenCredential(credential(t))), onV1(cloud.Vars["AOAI_ENDPOINT"], token(t, scope)),
	} {
		refused(t, chat(t, client, "none"), 404, "DeploymentNotFound", "does not exist")
	}
	err := chat(t, openai.NewClient(azure.WithEndpoint(cloud.Vars["AOAI_ENDPOINT"], "yesterday"), azure.WithTokenCredential(credential(t))), "chat")
	refused(t, err, 404, "404", "Resource not found")
}

// A capacity of 1 is six requests a minute. Who asks too often is told when to come again; a client does.
func TestLimits(t *testing.T) {
	if !as(t, user) {
		return
	}
	client := onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithTokenCredential(credential(t)))
	var err error
	for n := 0; err == nil && n < 20; n++ {
		err = chat(t, client, "tight")
	}
	r := refused(t, err, 429, "429", "rate limit", "retry after")
	seconds, err := strconv.Atoi(r.Response.Header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After is %q", r.Response.Header.Get("Retry-After"))
	}
	if ms, err := strconv.Atoi(r.Response.Header.Get("Retry-After-Ms")); err != nil || ms < 1 || ms > seconds*1000 {
		t.Errorf("retry-after-ms is %q", r.Response.Header.Get("Retry-After-Ms"))
	}
	ask := says("ahoy")
	ask.Model = "tight"
	if _, err := client.Chat.Completions.New(t.Context(), ask, option.WithMaxRetries(3)); err != nil {
		t.Errorf("a client that waits is refused: %v", err)
	}
	if err := chat(t, client, "chat"); err != nil {
		t.Errorf("the limit is another deployment's: %v", err)
	}
}

// patch changes an account of its own for the test, and gives its endpoint and key.
func patch(t *testing.T, name string, properties map[string]any) (endpoint, key string) {
	t.Helper()
	name += cloud.Vars["AOAI_NAME"]
	id := az(t, "cognitiveservices", "account", "create", "--resource-group", group, "--name", name, "--location", "eastus",
		"--kind", "OpenAI", "--sku", "s0", "--custom-domain", name, "--query", "id")
	key = az(t, "cognitiveservices", "account", "keys", "list", "--resource-group", group, "--name", name, "--query", "key1")
	az(t, "cognitiveservices", "account", "deployment", "create", "--resource-group", group, "--name", name, "--deployment-name", "chat",
		"--model-name", "parrot", "--model-version", "1", "--model-format", "OpenAI", "--sku-name", "Standard", "--sku-capacity", "10")
	az(t, "role", "assignment", "create", "--assignee-object-id", cloud.Vars["aiIdentity"], "--assignee-principal-type", "ServicePrincipal",
		"--role", "Cognitive Services OpenAI User", "--scope", id)
	az(t, "rest", "--method", "patch", "--url", "https://management.azure.com"+id+"?api-version=2024-10-01", "--body", body(t, map[string]any{"properties": properties}))
	return "https://" + name + ".openai.azure.com/", key
}

func TestLocalAuthDisabled(t *testing.T) {
	if !as(t, user) {
		return
	}
	endpoint, key := patch(t, "nokeys", map[string]any{"disableLocalAuth": true})
	refused(t, chat(t, onAzure(endpoint, azure.WithAPIKey(key)), "chat"), 403, "AuthenticationTypeDisabled", "Key based authentication is disabled")
	refused(t, chat(t, onV1(endpoint, key), "chat"), 403, "AuthenticationTypeDisabled")
	if err := chat(t, onAzure(endpoint, azure.WithTokenCredential(credential(t))), "chat"); err != nil {
		t.Errorf("a token is refused: %v", err)
	}
}

// A firewall decides by where a call comes from, before it looks at who calls.
func TestNetworkRules(t *testing.T) {
	if !as(t, user) {
		return
	}
	for name, c := range map[string]struct {
		properties map[string]any
		says       string
	}{
		"closed":    {map[string]any{"publicNetworkAccess": "Disabled"}, "Public access is disabled"},
		"walled":    {map[string]any{"networkAcls": map[string]any{"defaultAction": "Deny"}}, "Virtual Network/Firewall"},
		"elsewhere": {map[string]any{"networkAcls": map[string]any{"defaultAction": "Deny", "ipRules": []any{map[string]any{"value": "203.0.113.7"}}}}, "Virtual Network/Firewall"},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint, key := patch(t, name, c.properties)
			refused(t, chat(t, onAzure(endpoint, azure.WithTokenCredential(credential(t))), "chat"), 403, "", c.says)
			refused(t, chat(t, onAzure(endpoint, azure.WithAPIKey(key)), "chat"), 403, "", c.says)
			refused(t, chat(t, onAzure(endpoint, azure.WithAPIKey("wrong")), "chat"), 403, "", c.says)
		})
	}
	t.Run("let in", func(t *testing.T) {
		endpoint, key := patch(t, "open", map[string]any{"networkAcls": map[string]any{"defaultAction": "Deny", "ipRules": []any{map[string]any{"value": "127.0.0.1"}}}})
		if err := chat(t, onAzure(endpoint, azure.WithAPIKey(key)), "chat"); err != nil {
			t.Error(err)
		}
	})
}
