package laztest_test

import (
	"testing"

	"lazurite.dev/laztest"
)

func TestNew_ServesManagement(t *testing.T) {
	c := laztest.New(t)
	const group = "/subscriptions/{sub}/resourceGroups/Demo?api-version=2021-04-01"
	if code, m := c.ARM(t, "PUT", group, `{"location":"East US"}`); code != 201 || m["location"] != "eastus" {
		t.Fatalf("create: %d %v", code, m)
	}
	if code, m := c.ARM(t, "GET", group, ""); code != 200 || m["name"] != "Demo" {
		t.Fatalf("show: %d %v", code, m)
	}
	if code, _ := c.Send(t, "", "GET", "https://management.azure.com/subscriptions?api-version=2022-12-01", ""); code != 401 {
		t.Fatalf("without a token: %d, want 401", code)
	}
}
