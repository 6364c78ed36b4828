package cli

import (
	"context"
	"net/http"
)

func mlAssetCommands() []*command {
	var all []*command
	for _, k := range []assetKind{modelKind(), environmentKind(), dataKind()} {
		all = append(all, k.create(), k.showCommand(), k.list(), k.archive("archive", true), k.archive("restore", false))
	}
	return append(all, codeKind().showCommand(), codeKind().list())
}

func (k assetKind) nameOpt() arg { return opt("name", "Name of the "+k.word+".").or("-n") }

func (k assetKind) versionOpt() arg { return opt("version", "Version of the "+k.word+".").or("-v") }

func (k assetKind) labelOpt() arg {
	return opt("label", "Label in place of a version: latest.").or("-l")
}

func (k assetKind) createArgs() []arg {
	args := inWorkspace(k.nameOpt(), k.versionOpt(), fileOpt(k.word), setOpt(), opt("description", "Description."), tagsOpt(), noWaitOpt())
	switch k.word {
	case "environment":
		return append(args, opt("image", "Image.").or("-i"), opt("conda-file", "File of a conda environment that is added to the image.").or("-c"),
			opt("build-context", "Folder that an image is built from.").or("-b"), opt("dockerfile-path", "Its Dockerfile, from the folder.").or("-d"),
			opt("os-type", "Operating system.").oneOf("linux", "windows"))
	case "model":
		return append(args, opt("path", "File or folder with the model.").or("-p"), opt("type", "Kind of model.").or("-t").oneOf("custom_model", "mlflow_model", "triton_model"),
			opt("stage", "Stage of the model.").or("-s"))
	}
	return append(args, opt("path", "File or folder with the data.").or("-p"), opt("type", "Kind of data.").or("-t").oneOf("uri_file", "uri_folder", "mltable"))
}

func (k assetKind) example() string {
	switch k.word {
	case "environment":
		return "-n myEnvironment --image myregistry.azurecr.io/serve:v1"
	case "model":
		return "-n myModel --version 1 --path model/"
	}
	return "-n myData --path data/"
}

func (k assetKind) create() *command {
	return &command{path: "ml " + k.word + " create", short: "Create a version of " + article(k.word) + ".", example: "ml " + k.word + " create -g myGroup -w myWorkspace " + k.example(),
		args: k.createArgs(),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			spec, err := c.spec("name", "name", "version", "version", "description", "description", "tags", "tags", "path", "path", "type", "type", "stage", "stage",
				"image", "image", "conda-file", "conda_file", "os-type", "os_type")
			if err != nil {
				return nil, err
			}
			if _, err := spec.named(k.fields); err != nil {
				return nil, err
			}
			if k.word != "environment" {
				v, err := w.register(ctx, k, spec)
				return k.show(v), err
			}
			if c.given("build-context") {
				spec.body["build"] = withoutNil(object{"path": c.text("build-context"), "dockerfile_path": c.text("dockerfile-path")})
			}
			v, err := w.registerEnvironment(ctx, spec)
			return k.show(v), err
		})}
}

func article(word string) string {
	switch word {
	case "environment":
		return "an environment"
	case "data":
		return "a data asset"
	}
	return "a " + word
}

// chosen is the version that --version or --label names.
func (k assetKind) chosen(ctx context.Context, c *call, w *workspace) (string, error) {
	name := c.text("name")
	switch {
	case c.given("version") && c.given("label"):
		return "", failf("Cannot specify both version and label.")
	case c.given("version"):
		return w.version(k, name, c.text("version")), nil
	case c.given("label"):
		return w.reference(ctx, k, "azureml:"+name+"@"+c.text("label"))
	}
	return "", failf("Must provide either version or label.")
}

func (k assetKind) showCommand() *command {
	return &command{path: "ml " + k.word + " show", short: "Show a version of " + article(k.word) + ".",
		example: "ml " + k.word + " show -g myGroup -w myWorkspace -n myName --version 1",
		args:    inWorkspace(k.nameOpt().required(), k.versionOpt(), k.labelOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			path, err := k.chosen(ctx, c, w)
			if err != nil {
				return nil, err
			}
			v, err := w.m.get(ctx, path, mlVersion)
			return k.show(v), err
		})}
}

func (k assetKind) list() *command {
	return &command{path: "ml " + k.word + " list", short: "List " + k.plural + ", or with --name the versions of one.", example: "ml " + k.word + " list -g myGroup -w myWorkspace",
		args: inWorkspace(k.nameOpt(), numberOpt("max-results", "Most to list.").or("-r"), flagOpt("archived-only", "Only what is archived."), flagOpt("include-archived", "What is archived too.")),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			view := "ActiveOnly"
			switch {
			case c.flag("archived-only"):
				view = "ArchivedOnly"
			case c.flag("include-archived"):
				view = "All"
			}
			parts := []string{k.plural}
			show := k.showContainer
			if c.given("name") {
				parts, show = append(parts, c.text("name"), "versions"), k.show
			}
			l, err := w.m.list(ctx, w.under(parts...), mlVersion, "listViewType", view)
			if n := c.number("max-results"); n > 0 && len(l) > n {
				l = l[:n]
			}
			return each(l, show), err
		})}
}

// showContainer is an asset with all its versions.
func (k assetKind) showContainer(v any) any {
	out := k.fields.show(at(v, "properties"))
	out["id"], out["name"] = at(v, "id"), at(v, "name")
	out["latest version"] = at(v, "properties", "latestVersion")
	return out
}

// archive hides a version or shows it again.
func (k assetKind) archive(verb string, archived bool) *command {
	return &command{path: "ml " + k.word + " " + verb, short: map[bool]string{true: "Leave it out of lists; it stays usable.", false: "Show in lists again what was archived."}[archived],
		example: "ml " + k.word + " " + verb + " -g myGroup -w myWorkspace -n myName --version 1",
		args:    inWorkspace(k.nameOpt().required(), k.versionOpt(), k.labelOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			path := w.under(k.plural, c.text("name"))
			if c.given("version") || c.given("label") {
				var err error
				if path, err = k.chosen(ctx, c, w); err != nil {
					return nil, err
				}
			}
			v, err := w.m.get(ctx, path, mlVersion)
			if err != nil {
				return nil, err
			}
			props := objectOr(at(v, "properties"))
			props["isArchived"] = archived
			_, err = w.m.do(ctx, http.MethodPut, path, mlVersion, object{"properties": props})
			return nil, err
		})}
}
