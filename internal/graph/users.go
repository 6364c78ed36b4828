package graph

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
)

// userDefaults are the properties of a user that are shown without $select.
func userDefaults() []string {
	return []string{"businessPhones", "displayName", "givenName", "id", "jobTitle", "mail", "mobilePhone", "officeLocation",
		"preferredLanguage", "surname", "userPrincipalName"}
}

func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}

func userEntity(u directory.User) entity {
	return with(entity{
		"id": u.ObjectID, "userPrincipalName": u.UPN, "displayName": u.DisplayName, "givenName": null(u.GivenName),
		"surname": null(u.Surname), "mail": null(u.Mail), "mailNickname": null(u.MailNickname), "jobTitle": null(u.JobTitle),
		"officeLocation": null(u.OfficeLocation), "mobilePhone": null(u.MobilePhone), "businessPhones": strings0(u.BusinessPhones),
		"preferredLanguage": null(u.PreferredLanguage), "accountEnabled": !u.Disabled, "userType": "Member",
		"createdDateTime": stamp(u.Created), "deletedDateTime": nil, "onPremisesSyncEnabled": nil,
	}, u.Extra)
}

// user finds a user by object id or UPN.
func (h *Handler) user(key string) (directory.User, error) {
	key = strings.TrimPrefix(key, "userPrincipalName=")
	u, err := h.dir.User(key)
	if errors.Is(err, directory.ErrNotFound) {
		u, err = h.dir.ByUPN(key)
	}
	if errors.Is(err, directory.ErrNotFound) {
		return u, notFound(key)
	}
	return u, err
}

func (h *Handler) listUsers(c *call) error {
	expr, err := c.filter()
	if err != nil {
		return err
	}
	users := []directory.User(nil)
	if upn, ok := required(expr, "userPrincipalName"); ok {
		if u, err := h.dir.ByUPN(upn); err == nil {
			users = append(users, u)
		}
	} else {
		users = h.dir.Users()
	}
	all := make([]entity, 0, len(users))
	for _, u := range users {
		all = append(all, userEntity(u))
	}
	return c.list("users", all, userDefaults())
}

func (h *Handler) getUser(c *call) error {
	u, err := h.user(c.args[0])
	if err != nil {
		return err
	}
	return c.one(http.StatusOK, "users", userEntity(u), userDefaults())
}

// passwordProfile is how Graph takes a new password.
type passwordProfile struct {
	Password    string `json:"password"`
	ForceChange bool   `json:"forceChangePasswordNextSignIn"`
	ForceMFA    bool   `json:"forceChangePasswordNextSignInWithMfa"`
}

func (p *passwordProfile) check() error {
	if p.ForceChange || p.ForceMFA {
		return badRequest("Request_BadRequest", "passwordProfile.forceChangePasswordNextSignIn is not supported: the sign-in page cannot ask for a new password. Send false.")
	}
	if len(p.Password) < 8 || len(p.Password) > 256 {
		return badRequest("Request_BadRequest", "The specified password does not comply with password complexity requirements: it must have 8 to 256 characters.")
	}
	return nil
}

// fillUser moves what b says into u.
func fillUser(b *body, u *directory.User) error {
	for name, v := range map[string]*string{
		"userPrincipalName": &u.UPN, "displayName": &u.DisplayName, "givenName": &u.GivenName, "surname": &u.Surname, "mail": &u.Mail,
		"mailNickname": &u.MailNickname, "jobTitle": &u.JobTitle, "officeLocation": &u.OfficeLocation, "mobilePhone": &u.MobilePhone,
		"preferredLanguage": &u.PreferredLanguage,
	} {
		take(b, name, v)
	}
	take(b, "businessPhones", &u.BusinessPhones)
	enabled := true
	if take(b, "accountEnabled", &enabled) {
		u.Disabled = !enabled
	}
	var kind string
	if take(b, "userType", &kind) && kind != "" && kind != "Member" {
		return badRequest("Request_BadRequest", "The userType '%s' is not supported: every user is a Member.", kind)
	}
	u.Extra = b.rest(u.Extra)
	if u.DisplayName == "" {
		return badRequest("Request_BadRequest", "A value is required for property 'displayName' of resource 'User'.")
	}
	return b.err
}

func (h *Handler) createUser(c *call) error {
	if err := h.mayWriteUser(c, ""); err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var pw passwordProfile
	if !take(&b, "passwordProfile", &pw) {
		return badRequest("Request_BadRequest", "A password must be specified to create a new user.")
	}
	var u directory.User
	if err := fillUser(&b, &u); err != nil {
		return err
	}
	if err := pw.check(); err != nil {
		return err
	}
	if u, err = h.dir.CreateUser(c, u, pw.Password); err != nil {
		if errors.Is(err, directory.ErrTaken) {
			return badRequest("Request_BadRequest", "Another object with the same value for property userPrincipalName already exists.")
		}
		return err
	}
	return c.one(http.StatusCreated, "users", userEntity(u), userDefaults())
}

func (h *Handler) updateUser(c *call) error {
	u, err := h.user(c.args[0])
	if err != nil {
		return err
	}
	if err := h.mayWriteUser(c, u.ObjectID); err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var pw passwordProfile
	changed := take(&b, "passwordProfile", &pw)
	if changed {
		if err := pw.check(); err != nil {
			return err
		}
	}
	only := changed && len(b.m) == 0
	was := u.Disabled
	if err := fillUser(&b, &u); err != nil {
		return err
	}
	if u.Disabled && !was {
		if err := h.cfg.Leave(c, u.ObjectID); err != nil {
			return err
		}
	}
	if !only {
		if u, err = h.dir.UpdateUser(c, u); err != nil {
			return err
		}
	}
	if changed {
		if err := h.dir.SetPassword(c, u.ObjectID, pw.Password); err != nil {
			return err
		}
	}
	return c.noContent()
}

func (h *Handler) deleteUser(c *call) error {
	u, err := h.user(c.args[0])
	if err != nil {
		return err
	}
	if err := h.mayWriteUser(c, u.ObjectID); err != nil {
		return err
	}
	if err := h.cfg.Leave(c, u.ObjectID); err != nil {
		return err
	}
	if err := h.dir.DeleteUser(c, u.ObjectID); err != nil {
		return err
	}
	return c.noContent()
}

// changePassword lets users change their own.
func (h *Handler) changePassword(c *call) error {
	u, err := h.user(c.args[0])
	if err != nil {
		return err
	}
	if !strings.EqualFold(u.ObjectID, c.caller.ObjectID) {
		return denied()
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var was string
	next := passwordProfile{}
	take(&b, "currentPassword", &was)
	take(&b, "newPassword", &next.Password)
	if b.err != nil {
		return b.err
	}
	if err := next.check(); err != nil {
		return err
	}
	if _, err := h.dir.CheckPassword(c, u.UPN, was); err != nil {
		return badRequest("Request_BadRequest", "The specified password does not match the current password.")
	}
	if err := h.dir.SetPassword(c, u.ObjectID, next.Password); err != nil {
		return err
	}
	return c.noContent()
}

// userInfo says who the caller is. Source: OpenID Connect Core 1.0, section 5.3.
func (h *Handler) userInfo(c *call) error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodPost {
		return apierr.New(apierr.MethodNotAllowed, "Request_BadRequest", "The method '%s' is not supported here.", c.r.Method)
	}
	u, err := h.dir.User(c.caller.ObjectID)
	if err != nil {
		return badRequest("BadRequest", "userinfo is only valid with delegated authentication flow.")
	}
	return c.json(http.StatusOK, entity{
		"sub": u.ObjectID, "name": u.DisplayName, "given_name": u.GivenName, "family_name": u.Surname, "email": u.Mail,
		"preferred_username": u.UPN,
	})
}
