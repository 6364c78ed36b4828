package laztest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"lazurite.dev/laztest"
)

const (
	openAIUser = "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd"
	cognitive  = "https://cognitiveservices.azure.com"
)

// model makes an account with the subdomain and a deployment "chat".
func model(t *testing.T, c *laztest.Cloud, subdomain string) (id string) {
	t.Helper()
	group := "/subscriptions/" + c.Subscription + "/resourceGroups/g"
	id = group + "/providers/Microsoft.CognitiveServices/accounts/" + subdomain
	for _, put := range [][2]string{
		{group + "?api-version=2024-03-01", `{"location":"eastus"}`},
		{id + "?api-version=2025-06-01", `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{"customSubDomainName":"` + subdomain + `"}}`},
		{id + "/deployments/chat?api-version=2025-06-01", `{"sku":{"name":"Standard","capacity":10},"properties":{"model":{"format":"OpenAI","name":"gpt-4o-mini","version":"2024-07-18"}}}`},
	} {
		if status, body := c.ARM(t, "PUT", put[0], put[1]); status >= 300 {
			t.Fatalf("PUT %s: %d %v", put[0], status, body)
		}
	}
	return id
}

func TestOpenAI_ARoleOpensTheModelAndItsAbsenceIsExplained(t *testing.T) {
	c := laztest.New(t)
	id := model(t, c, "words")
	const url = "https://words.openai.azure.com/openai/deployments/chat/chat/completions?api-version=2024-10-21"
	const body = `{"messages":[{"role":"user","content":"Describe a product: rope with tags: strong, blue"}]}`
	tok := c.OwnerToken(t, cognitive)
	status, answer := c.Send(t, tok, "POST", url, body)
	if e, _ := answer["error"].(map[string]any); status != http.StatusUnauthorized || e["code"] != "PermissionDenied" ||
		!strings.Contains(fmt.Sprint(e["message"]), "lacks the required data action `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to perform `POST /openai/deployments/{deployment-id}/chat/completions`") {
		t.Fatalf("an owner without a data role: %d %v", status, answer)
	}
	_, why := c.ARM(t, "GET", "/subscriptions/"+c.Subscription+"/providers/Lazurite.Explain/refusals/last?api-version=2026-01-01", "")
	if s := fmt.Sprint(why); !strings.Contains(s, "az role assignment create") || !strings.Contains(s, "Cognitive Services OpenAI User") {
		t.Errorf("the explanation: %v", why)
	}
	status, ahead := c.ARM(t, "POST", "/subscriptions/"+c.Subscription+"/providers/Lazurite.Explain/explain?api-version=2026-01-01",
		`{"principal":"`+c.OwnerID(t)+`","to":"`+url+`"}`)
	if status != 200 || ahead["allowed"] != false || !strings.Contains(fmt.Sprint(ahead), "chat/completions/action") {
		t.Errorf("the explanation ahead: %d %v", status, ahead)
	}
	for _, to := range []string{id, id + "/deployments/chat"} {
		status, ahead = c.ARM(t, "POST", "/subscriptions/"+c.Subscription+"/providers/Lazurite.Explain/explain?api-version=2026-01-01", `{"principal":"`+c.OwnerID(t)+`","to":"`+to+`"}`)
		if s := fmt.Sprint(ahead); status != 200 || ahead["allowed"] != false || !strings.HasSuffix(fmt.Sprint(ahead["what"]), "chat/completions/action on "+id) || !strings.Contains(s, "step:network") {
			t.Errorf("to %s: %d %v", to, status, ahead)
		}
	}
	plain := strings.Replace(id, "/words", "/plain", 1)
	if status, out := c.ARM(t, "PUT", plain+"?api-version=2025-06-01", `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{}}`); status >= 300 {
		t.Fatalf("%d %v", status, out)
	}
	_, ahead = c.ARM(t, "POST", "/subscriptions/"+c.Subscription+"/providers/Lazurite.Explain/explain?api-version=2026-01-01", `{"principal":"`+c.OwnerID(t)+`","to":"`+plain+`"}`)
	if s := fmt.Sprint(ahead); ahead["allowed"] != false || !strings.Contains(s, "--custom-domain plain") {
		t.Errorf("an account without a subdomain: %v", ahead)
	}
	if status, out := c.ARM(t, "PUT", id+"/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-0000000000aa?api-version=2022-04-01",
		`{"properties":{"principalId":"`+c.OwnerID(t)+`","roleDefinitionId":"/subscriptions/`+c.Subscription+`/providers/Microsoft.Authorization/roleDefinitions/`+openAIUser+`"}}`); status != http.StatusCreated {
		t.Fatalf("assigning: %d %v", status, out)
	}
	for _, audience := range []string{cognitive, cognitive + "/", "https://ai.azure.com"} {
		status, answer = c.Send(t, c.OwnerToken(t, audience), "POST", url, body)
		if status != http.StatusOK || answer["object"] != "chat.completion" {
			t.Errorf("with a token for %s: %d %v", audience, status, answer)
		}
	}
	if status, answer = c.Send(t, c.OwnerToken(t, "https://ml.azure.com"), "POST", url, body); status != http.StatusUnauthorized || !strings.Contains(fmt.Sprint(answer["message"]), "audience is incorrect") {
		t.Errorf("a token for another resource: %d %v", status, answer)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+tok)
	resp, err := c.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	_, how := c.ARM(t, "GET", "/subscriptions/"+c.Subscription+"/providers/Lazurite.Explain/refusals/"+resp.Header.Get("apim-request-id")+"?api-version=2026-01-01", "")
	if s := fmt.Sprint(how); how["answered"] != true || how["outcome"] != "200 OK" || !strings.Contains(s, "by the backend builtin/tiny-writer (attempt 1)") || strings.Contains(s, "rope") {
		t.Errorf("how it was answered: %v", how)
	}
	status, answer = c.Send(t, tok, "POST", "https://words.openai.azure.com/openai/v1/responses", `{"model":"chat","input":"Describe a product: rope with tags: strong, blue"}`)
	if status != http.StatusOK || answer["object"] != "response" {
		t.Errorf("responses: %d %v", status, answer)
	}
}
