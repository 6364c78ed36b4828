package resources

import (
	"context"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
)

// groups is Microsoft.Resources/resourceGroups.
func groups() arm.Kind[struct{}] {
	return arm.Kind[struct{}]{
		Type: "resourceGroups", APIVersions: versions(), Scopes: arm.Subscription, Tracked: true, AsyncDel: true,
		ActionType: "Microsoft.Resources/subscriptions/resourceGroups",
		Name:       checkGroupName, Validate: checkGroup,
	}
}

// checkGroupName keeps Azure's rule: letters, digits, -._() and no period at
// the end, at most 90. Source: "Naming rules and restrictions for Azure resources".
func checkGroupName(name string) error {
	if utf8.RuneCountInString(name) > 90 {
		return apierr.New(apierr.BadRequest, "InvalidResourceGroup", "The provided resource group name '%s' is longer than 90 characters.", name)
	}
	bad := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-._()", r) {
			return -1
		}
		return r
	}, name)
	if strings.HasSuffix(name, ".") {
		bad += "."
	}
	if bad != "" {
		return apierr.New(apierr.BadRequest, "InvalidResourceGroup",
			"The provided resource group name '%s' has these invalid characters: '%s'. The name can only be a letter, digit, '-', '.', '(', ')' or '_', and cannot end in '.'.", name, bad)
	}
	return nil
}

func checkGroup(_ context.Context, old, next *arm.Resource[struct{}]) error {
	var by string
	if raw, ok := next.Extra["managedBy"]; ok {
		if err := json.Unmarshal(raw, &by); err != nil {
			return apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid: 'managedBy' must be a resource id.").WithTarget("managedBy")
		}
	}
	if old == nil {
		return nil
	}
	if was, ok := old.Extra["managedBy"]; ok && string(was) != string(next.Extra["managedBy"]) && by != "" {
		return apierr.New(apierr.Conflict, "ResourceGroupManagedByMismatch",
			"The resource group '%s' is managed by %s, which cannot be changed.", next.ID.Name(), was)
	}
	return nil
}
