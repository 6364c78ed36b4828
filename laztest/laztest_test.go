package laztest_test

import (
	"testing"

	"lazurite.dev/laztest"
)

func TestThinPath(t *testing.T) {
	c := laztest.New(t)
	for _, p := range []string{"/subscriptions?api-version=2022-12-01", "/subscriptions/{sub}/resourcegroups?api-version=2021-04-01"} {
		code, m := c.ARM(t, "GET", p, "")
		t.Log(code, m)
	}
	code, m := c.ARM(t, "PUT", "/subscriptions/{sub}/resourcegroups/Demo?api-version=2021-04-01", `{"location":"East US","tags":{"a":"b"}}`)
	t.Log(code, m)
	code, m = c.ARM(t, "GET", "/subscriptions/{sub}/resourceGroups/demo?api-version=2021-04-01", "")
	t.Log(code, m)
	code, m = c.ARM(t, "DELETE", "/subscriptions/{sub}/resourceGroups/demo?api-version=2021-04-01", "")
	t.Log(code, m)
	code, m = c.ARM(t, "GET", "/subscriptions/{sub}/resourceGroups/demo?api-version=2021-04-01", "")
	t.Log(code, m)
}
