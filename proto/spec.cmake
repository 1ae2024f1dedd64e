# SPDX-License-Identifier: Apache-2.0
# gradd_spec: YAML to JobSpec and back; links neither gRPC nor the engine.
gradd_library(gradd_spec
  SOURCES
    spec.c spec_report.c yaml.c spec_expr.c spec_expand.c rules.c spec_read.c spec_check.c spec_format.c
    spec_explain.c spec_packed.c spec_schema.c
  LIBS gradd_base gradd_messages m
  PRIVATE_LIBS PkgConfig::YAML)
