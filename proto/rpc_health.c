/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_health: grpc.health.v1. Everything is SERVING until the server closes. */
#include <string.h>

#include "grpc/health/v1/health.pb-c.h"
#include "proto/rpc_internal.h"

static bool service_is_known(const rpc_server_t *server, const char *service)
{
    if (service[0] == '\0') {
        return true;
    }
    for (char **known = server->services; *known != NULL; known++) {
        if (strcmp(*known, service) == 0) {
            return true;
        }
    }
    return false;
}

static status_t health_check(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    const rpc_server_t *server = arg;
    const Grpc__Health__V1__HealthCheckRequest *check = (const Grpc__Health__V1__HealthCheckRequest *)request;
    if (!service_is_known(server, check->service)) {
        return ST_FAIL(ST_ERR_NOT_FOUND, "no service \"%s\"", check->service);
    }
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = atomic_load(&server->is_closing)
                          ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
                          : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    return rpc_call_write(call, &response.base);
}

static status_t health_watch(rpc_call_t *call, const ProtobufCMessage *request, void *arg)
{
    const rpc_server_t *server = arg;
    const Grpc__Health__V1__HealthCheckRequest *check = (const Grpc__Health__V1__HealthCheckRequest *)request;
    bool is_known = service_is_known(server, check->service);
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = is_known ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                               : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    status_t status = rpc_call_write(call, &response.base);
    while (status == ST_OK && !rpc_call_wait(call, 3600 * 1000)) {
    }
    if (status == ST_OK && is_known && atomic_load(&server->is_closing)) {
        response.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
        status = rpc_call_write(call, &response.base);
    }
    return status;
}

const rpc_method_t rpc_health_methods[RPC_N_HEALTH_METHODS] = {
    {"/grpc.health.v1.Health/Check", RPC_UNARY, &grpc__health__v1__health_check_request__descriptor, health_check},
    {"/grpc.health.v1.Health/Watch", RPC_SERVER_STREAM, &grpc__health__v1__health_check_request__descriptor,
     health_watch},
};
