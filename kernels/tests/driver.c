// What stands in for NVIDIA's driver: it has the release, the GPUs and the memory that it is built with.
#ifndef FREE
#define FREE (3ul << 30)
#endif

int cuDriverGetVersion(int* version) {
    *version = VERSION;
    return 0;
}

int cuInit(unsigned flags) {
    (void)flags;
    return START;
}

int cuDeviceGetCount(int* count) {
    *count = DEVICES;
    return 0;
}

int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return 0;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
    static int contexts[DEVICES + 1];
    *context = &contexts[device];
    return 0;
}

int cuCtxPushCurrent_v2(void* context) {
    (void)context;
    return 0;
}

int cuCtxPopCurrent_v2(void** context) {
    *context = 0;
    return 0;
}

int cuMemGetInfo_v2(unsigned long* free, unsigned long* total) {
    *free = FREE;
    *total = 4ul << 30;
    return 0;
}
