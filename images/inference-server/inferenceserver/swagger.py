"""What /swagger.json answers: the files of the user, or one that says that anything goes in and out."""
import json
import logging
import os

logger = logging.getLogger("azmlinfsrv.swagger")

VERSIONS = {"2": ("swagger.json", "swagger2.json"), "3": ("swagger3.json",), "3.1": ("swagger3.1.json",)}
ALIASES = {"2.0": "2", "3.0": "3"}


class Swagger:
    def __init__(self, settings, user):
        self.documents = {}
        for version, files in VERSIONS.items():
            found = self._read(settings, version, files)
            self.documents[version] = _made(settings, version) if found is None else found
        logger.info("Swaggers are prepared for the following versions: [%s].", ", ".join(self.documents))

    @staticmethod
    def _read(settings, version, files):
        for folder in (settings.app_root, os.path.dirname(settings.script or "")):
            for name in files:
                path = os.path.join(folder, name)
                try:
                    with open(path, encoding="utf-8") as f:
                        content = json.load(f)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except (OSError, ValueError) as ex:
                    logger.warning("%s is not used: %s", path, ex)
                    continue
                logger.info("Loaded user's swagger file for version [%s] from %s", version, path)
                return content
        return None

    def get(self, version):
        """The document of a version, or None and why there is none."""
        found = self.documents.get(ALIASES.get(version, version))
        return found, f"Swagger version [{version}] is not valid. Supported versions: [{', '.join(self.documents)}]."


def _made(settings, version):
    prefix = "/" + settings.service_path_prefix.strip("/") if settings.service_path_prefix.strip("/") else ""
    info = {"title": settings.service_name, "description": f"API specification for the Azure Machine Learning service {settings.service_name}",
            "version": settings.service_version}
    anything, text = {"type": "object", "example": {}}, {"type": "string"}
    if version == "2":
        at, response = "#/definitions/", lambda d, schema: {"description": d, "schema": schema}
        body = {"parameters": [{"name": "serviceInputPayload", "in": "body", "schema": {"$ref": at + "ServiceInput"},
                                "description": "The input payload for executing the real-time machine learning service."}]}
    else:
        at, response = "#/components/schemas/", lambda d, schema: {"description": d, "content": {"application/json": {"schema": schema}}}
        body = {"requestBody": {"description": "The input payload for executing the real-time machine learning service.",
                                "content": {"application/json": {"schema": {"$ref": at + "ServiceInput"}}}}}
    error = response("If service encounters any error", {"$ref": at + "ErrorResponse"})
    paths = {
        prefix + "/": {"get": {"operationId": "ServiceHealthCheck", "description": "Simple health check endpoint to ensure the service is up at any given point.",
                               "responses": {"200": response("If service is up and running, this response will be returned with the content 'Healthy'", text), "default": error}}},
        prefix + "/score": {"post": {"operationId": "RunMLService", "description": "Run web service's model and get the prediction output", **body,
                                     "responses": {"200": response("The service processed the input correctly and provided a result prediction, if applicable.", {"$ref": at + "ServiceOutput"}), "default": error}}},
    }
    schemas = {"ServiceInput": anything, "ServiceOutput": anything,
               "ErrorResponse": {"type": "object", "properties": {"status_code": {"type": "integer", "format": "int32"}, "message": {"type": "string"}}}}
    security = {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header", "description": "For example: Bearer abc123"}}
    if version == "2":
        return {"swagger": "2.0", "info": info, "schemes": ["https"], "consumes": ["application/json"], "produces": ["application/json"],
                "securityDefinitions": security, "paths": paths, "definitions": schemas}
    return {"openapi": "3.1.0" if version == "3.1" else "3.0.3", "info": info, "paths": paths,
            "components": {"securitySchemes": security, "schemas": schemas}}
